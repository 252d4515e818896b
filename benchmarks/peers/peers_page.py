"""The page and the plot of what peers.py measured, from results/peers.json."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean, median
from typing import Any

from tabulate import tabulate

from benchmarks.peers.contest import Run
from benchmarks.plots import standalone_svg
from lora_tune.metrics.statistics import wilson_interval
from lora_tune.report.svg import INK, LORA, OTHER, draw_svg

TUNED = "PEFT, tuned Trainer"  # whose training time the others are compared with
HEADERS = ["version", "seeds", "training, s", "vs. tuned", "total, s", "peak memory, MB"]
# Contestants and scripts of older records: what they are called now.
RENAMED_CONTESTANTS = {"words alone": "TF-IDF baseline", "head alone": "linear probe"}
RENAMED_SCRIPTS = {
    "words": "tfidf",
    "ours head": "ours linear_probe",
    "ours still": "ours no_dropout",
    "tutorial tuned still": "tutorial tuned no_dropout",
}


def read_records(results: Path) -> dict[str, dict[str, Any]]:
    """Read what was recorded of each processor; empty where there is no record yet.

    Args:
        results: the folder with peers.json.
    """
    file = results / "peers.json"
    records: dict[str, dict[str, Any]] = json.loads(file.read_text()) if file.is_file() else {}
    for record in records.values():
        for key, renamed in (
            ("classification", RENAMED_CONTESTANTS),
            ("commands", RENAMED_SCRIPTS),
        ):
            record[key] = {renamed.get(name, name): value for name, value in record[key].items()}
    return records


def write_pages(results: Path) -> None:
    """Write peers.md, and peers.svg of the first record.

    Args:
        results: the folder with peers.json.
    """
    records = read_records(results)
    (results / "peers.md").write_text(format_page(records))
    (results / "peers.svg").write_text(draw_classifiers(next(iter(records.values()))))


def format_page(records: dict[str, dict[str, Any]]) -> str:
    """Format all records as Markdown.

    Args:
        records: by processor.
    """
    introduction = (
        "Made by `make peers`: MiniLM on the first training rows of IMDb, at most 256 tokens; LoRA "
        "of rank 8 and alpha 16 on `query` and `value`, learning rate 1e-3, 3 epochs, batches of "
        "16, dropout of 0.1 in the base model, except where a contestant's own settings are listed "
        "below its table. Each contestant runs in a fresh process; total time and peak memory are "
        "those of the whole process.\n\n"
        "Over several seeds: means (and ranges) of accuracy and loss, medians of time and memory; "
        "the 95 % interval (Wilson) is that of the mean. The column vs. tuned is training time "
        "relative to that of the tuned Trainer with the same seed, median over seeds. Contestants "
        "of one command ran interleaved; others ran at another time. Ludwig's training time "
        "includes its preparation of the rows, of which it uses a tenth for validation. NeMo "
        "AutoModel keeps the learning rate constant.\n\n"
        "Commands are quoted as they were run: `words`, `head` and `still` in older ones are "
        "called `tfidf`, `linear_probe` and `no_dropout` today."
    )
    parts = [_format_record(name, record) for name, record in records.items()]
    return "\n\n".join([introduction, *parts]) + "\n"


def _format_record(name: str, record: dict[str, Any]) -> str:
    parts = [f"## {name}", _format_classifiers(record)]
    if "causal" in record:
        parts.append(_format_language_models(record))
    scripts: dict[str, list[str]] = {}
    for script, command in record["commands"].items():
        scripts.setdefault(command, []).append(script)
    lines = [f"- `{command}`: {', '.join(names)}" for command, names in scripts.items()]
    return "\n\n".join([*parts, "\n".join(["Commands, and the scripts they ran:", "", *lines])])


def draw_classifiers(record: dict[str, Any]) -> str:
    """Draw training times, labeled with accuracies, as an SVG file."""
    runs, test_rows = record["classification"], record["test_rows"]
    finished = {name: [run for run in done if "error" not in run] for name, done in runs.items()}
    points = {
        name: (median(run["train_seconds"] for run in done), _mean_accuracy(done, test_rows))
        for name, done in finished.items()
        if done
    }

    def draw(axes: Any) -> None:
        for position, (name, (seconds, accuracy)) in enumerate(reversed(points.items())):
            axes.barh(position, seconds, color=LORA if "lora_tune" in name else OTHER, alpha=0.6)
            offset = {"textcoords": "offset points", "xytext": (4, 0), "va": "center"}
            axes.annotate(f"{accuracy:.3f}", (seconds, position), color=INK, fontsize=8, **offset)
        axes.set_yticks(range(len(points)), list(reversed(points)), fontsize=8)
        axes.margins(x=0.15)
        axes.set_xlabel("training time in seconds, with accuracy")

    summary = "; ".join(
        f"{name} {accuracy:.3f} in {seconds:.0f} s" for name, (seconds, accuracy) in points.items()
    )
    return standalone_svg(draw_svg(draw, f"Accuracy and training time: {summary}."))


def _mean_accuracy(done: Sequence[Run], test_rows: int) -> float:
    return mean(run["correct"] for run in done) / test_rows


def _format_classifiers(record: dict[str, Any]) -> str:
    test_rows = record["test_rows"]

    def cells(done: list[Run]) -> list[str]:
        low, high = wilson_interval(round(_mean_accuracy(done, test_rows) * test_rows), test_rows)
        accuracies = [run["correct"] / test_rows for run in done]
        return [_format_mean(accuracies), f"{low:.3f} to {high:.3f}"]

    table = _format_table(record["classification"], ["accuracy", "95% interval"], cells)
    return (
        f"Classification: {record['rows']} training rows, accuracy on the first {test_rows} test "
        f"rows:\n\n{table}"
    )


def _format_language_models(record: dict[str, Any]) -> str:
    tokens = record["tokens"]

    def cells(done: list[Run]) -> list[str]:
        rate = median(tokens / run["train_seconds"] for run in done)
        return [f"{rate:,.0f}", _format_mean([run["loss"] for run in done])]

    table = _format_table(record["causal"], ["tokens/s", "test loss"], cells)
    return (
        f"Language modeling: a small GPT-2 on {tokens:,} tokens of reviews, LoRA on `c_attn`, one "
        "epoch, batches of 8. The test loss is in nats per token; that of the base model is "
        f"{record['base_loss']:.3f}:\n\n{table}"
    )


def _format_mean(values: Sequence[float]) -> str:
    formatted = f"{mean(values):.3f}"
    if len(values) == 1:
        return formatted
    return f"{formatted} ({min(values):.3f} to {max(values):.3f})"


def _format_table(
    runs: dict[str, list[Run]],
    result_headers: Sequence[str],
    result_cells: Callable[[list[Run]], list[str]],
) -> str:
    """Format a table, and below it a list of each contestant's own settings and errors."""
    headers = ["", *HEADERS[:2], *result_headers, *HEADERS[2:]]
    rows, notes = [], []
    for name, done in runs.items():
        finished = [run for run in done if "error" not in run]
        row = {"": name, "version": done[0]["version"], "seeds": str(len(finished))}
        if finished:
            row |= dict(zip(result_headers, result_cells(finished), strict=True))
            row["training, s"] = f"{median(run['train_seconds'] for run in finished):,.1f}"
            row["vs. tuned"] = _compare_times(done, runs.get(TUNED, []))
        if timed := finished or [run for run in done if "total_seconds" in run]:
            row["total, s"] = f"{median(run['total_seconds'] for run in timed):,.1f}"
            peak = median(run["peak_memory_bytes"] for run in timed)
            row["peak memory, MB"] = f"{peak / 1e6:,.0f}"
        rows.append([row.get(header, "") for header in headers])
        note = [run.get("settings") or run.get("error") for run in done]
        notes += [f"- {name}: {'; '.join(dict.fromkeys(filter(None, note)))}"] if any(note) else []
    table = tabulate(rows, headers, tablefmt="github", disable_numparse=True)
    return "\n".join([table, "", *notes])


def _compare_times(done: Sequence[Run], tuned: Sequence[Run]) -> str:
    """Divide training times by those of the tuned Trainer with the same seeds; their median."""
    pairs = [
        (own["train_seconds"], reference["train_seconds"])
        for own, reference in zip(done, tuned, strict=False)
        if "error" not in own and "error" not in reference
    ]
    return f"{median(own / reference for own, reference in pairs):.2f}" if pairs else ""
