"""HTML pages: a run's `report.html`, made from the files of its directory, and what all share."""

import json
from functools import partial
from pathlib import Path
from typing import Any

from lora_tune.artifacts.run_reader import SavedRun, read_run
from lora_tune.config.redaction import redact
from lora_tune.errors import ArtifactError
from lora_tune.evaluation.results import TITLES
from lora_tune.report.classifier_plots import calibration_plot, roc_plot
from lora_tune.report.confusion_matrix import confusion_plot
from lora_tune.report.metric_plots import results_plot
from lora_tune.report.regression_plots import scatter_plot
from lora_tune.report.training_plots import length_plot, loss_plot, metric_plots
from lora_tune.tasks import make_task

REPORT_FILE = "report.html"
TEMPLATE = "report.html.jinja"


def write_report(folder: Path) -> Path:
    """Write the page of a run into its directory, and return its path.

    Raises:
        ArtifactError: a file of the run is missing or damaged, or the page cannot be written.
    """
    from jinja2 import UndefinedError

    run = read_run(folder)
    path = folder / REPORT_FILE
    try:
        page = fill_template(
            TEMPLATE, run=run, plots=_draw_plots(run), metric_plots=_draw_metrics(run)
        )
    except (KeyError, UndefinedError) as error:
        raise ArtifactError(
            f"{folder}: its files lack an entry that this version of lora_tune expects ({error}); "
            f"{REPORT_FILE} is unchanged"
        ) from None
    write_page(path, page)
    return path


def write_page(path: Path, html: str) -> None:
    """Write a page, without secrets.

    Raises:
        ArtifactError: the file cannot be written.
    """
    try:
        path.write_text(redact(html), encoding="utf-8")
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be written: {error.strerror}") from None


def fill_template(template: str, **content: Any) -> str:
    """Fill a template of this package; all text is escaped.

    Args:
        template: its file name.
        content: the template's variables.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("lora_tune.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["dump"] = partial(json.dumps, indent=2, ensure_ascii=False)
    environment.filters["system_title"] = _system_title
    return environment.get_template(template).render(content)


def _system_title(name: str) -> str:
    """The title of a system; its name where a run of another version has an unknown one."""
    return TITLES.get(name, name)


def _draw_plots(run: SavedRun) -> dict[str, str]:
    """Draw every plot that the run has the numbers for, by the template's name for it."""
    comparison, data = run.comparison, run.data
    kept_epoch = comparison["overfitting"]["kept_epoch"]
    results = comparison["results"]
    plots = {
        "results": results_plot(
            [_system_title(result["name"]) for result in results],
            [result["metrics"][comparison["metric"]] for result in results],
            [result["interval"] for result in results],
            metric=comparison["metric"].replace("_", " "),
            highlighted=len(results) - 1,
        ),
        "lengths": length_plot(
            data["token_count_edges"],
            {name: split["token_counts"] for name, split in data["splits"].items()},
            max_length=data["max_length"],
        ),
    }
    if run.evaluations and run.steps:
        plots["losses"] = loss_plot(run.steps, run.evaluations, kept_epoch=kept_epoch)
    if make_task(comparison["task"]).output_kind == "value":
        true, predicted = (
            [float(row[key]) for row in run.predictions] for key in ("label", "adapted")
        )
        plots["scatter"] = scatter_plot(true, predicted)
    if "error_analysis" in comparison:
        plots |= _draw_error_analysis(comparison["error_analysis"], run.data["labels"])
    return plots


def _draw_metrics(run: SavedRun) -> list[str]:
    """Draw each validation metric, where the run was evaluated while it trained."""
    if not run.evaluations:
        return []
    kept_epoch = run.comparison["overfitting"]["kept_epoch"]
    return metric_plots(run.evaluations, kept_epoch=kept_epoch)


def _draw_error_analysis(analysis: dict[str, Any], labels: list[str]) -> dict[str, str]:
    """Draw the confusion matrix, the reliability diagram and the ROC curves of a classifier."""
    plots = {
        "confusion": confusion_plot(analysis["confusion"], labels),
        "reliability": calibration_plot(analysis["reliability"], analysis["calibration_error"]),
    }
    curves = {
        score["label"]: (score["roc"], score["auc"])
        for score in analysis["classes"]
        if score["auc"] is not None
    }
    if len(analysis["classes"]) == len(curves) == 2:  # mirror images of each other
        curves.pop(analysis["classes"][0]["label"])
    if curves:
        plots["roc"] = roc_plot(curves)
    return plots
