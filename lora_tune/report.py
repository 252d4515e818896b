"""A run on one page: `report.html`, made of the files of its directory, and of nothing else."""

import json
from functools import partial
from pathlib import Path
from typing import Any

from lora_tune.comparison import TITLES
from lora_tune.errors import ArtifactError
from lora_tune.finished_run import FinishedRun, read_run
from lora_tune.plots import (
    confusion_picture,
    ladder_picture,
    length_picture,
    loss_picture,
    metric_picture,
    reliability_picture,
    roc_picture,
)
from lora_tune.redaction import redact

REPORT_FILE = "report.html"
TEMPLATE = "report.html.jinja"


def write_report(folder: Path) -> Path:
    """Write the page of a run into its directory; returns its place.

    Raises:
        ArtifactError: a file of the run is missing or damaged, or the page cannot be written.
    """
    from jinja2 import UndefinedError

    run = read_run(folder)
    path = folder / REPORT_FILE
    try:
        page = render(TEMPLATE, run=run, titles=TITLES, pictures=_draw(run))
    except (KeyError, UndefinedError) as error:
        raise ArtifactError(
            f"{folder}: its files are not as this version of lora_tune writes them ({error}); the "
            "page that is there stays as it is"
        ) from None
    write_page(path, page)
    return path


def write_page(path: Path, html: str) -> None:
    """Write a page, without secrets.

    Raises:
        ArtifactError: it cannot be written there.
    """
    try:
        path.write_text(redact(html), encoding="utf-8")
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be written: {error.strerror}") from None


def render(template: str, **content: Any) -> str:
    """Fill a template of this package; every text is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("lora_tune", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["dump"] = partial(json.dumps, indent=2, ensure_ascii=False)
    return environment.get_template(template).render(content)


def _draw(run: FinishedRun) -> dict[str, str]:
    """Draw every picture that the run has the numbers for."""
    compared, data = run.comparison, run.data
    kept = compared["overfitting"]["kept_epoch"]
    rungs = compared["rungs"]
    pictures = {
        "ladder": ladder_picture(
            [TITLES[rung["rung"]] for rung in rungs],
            [rung["metrics"][compared["metric"]] for rung in rungs],
            [rung["interval"] for rung in rungs],
            metric=compared["metric"].replace("_", " "),
            highlighted=len(rungs) - 1,
        ),
        "lengths": length_picture(
            data["token_count_edges"],
            {name: split["token_counts"] for name, split in data["splits"].items()},
            max_length=data["max_length"],
        ),
    }
    if run.evaluations and run.steps:
        pictures["losses"] = loss_picture(run.steps, run.evaluations, kept_epoch=kept)
        pictures["metrics"] = metric_picture(run.evaluations, kept_epoch=kept)
    return pictures | (_draw_diagnosis(run) if "diagnosis" in compared else {})


def _draw_diagnosis(run: FinishedRun) -> dict[str, str]:
    """Draw where a classifier is right and wrong."""
    diagnosis = run.comparison["diagnosis"]
    pictures = {
        "confusion": confusion_picture(diagnosis["confusion"], run.data["labels"]),
        "reliability": reliability_picture(
            diagnosis["reliability"], diagnosis["calibration_error"]
        ),
    }
    curves = {
        score["label"]: (score["roc"], score["auc"])
        for score in diagnosis["classes"]
        if score["auc"] is not None
    }
    if len(diagnosis["classes"]) == len(curves) == 2:  # the one mirrors the other
        curves.pop(diagnosis["classes"][0]["label"])
    if curves:
        pictures["roc"] = roc_picture(curves)
    return pictures
