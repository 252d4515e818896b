"""What benchmarks/peers.py measured, as tables and a picture."""

from collections.abc import Callable, Sequence
from statistics import mean, median
from typing import Any

from contest import Run
from pictures import stand_alone
from tabulate import tabulate

from lora_tune.drawing import INK, LORA, OTHER, draw_picture
from lora_tune.statistics import wilson_interval

TUNED = "PEFT, tuned Trainer"  # whose time the others' is told in
HEADERS = ["version", "seeds", "train, s", "of tuned", "total, s", "memory, MB"]


def write_page(records: dict[str, dict[str, Any]]) -> str:
    """Write all that was kept as a page of Markdown.

    Args:
        records: what peers.json holds: of each processor, what was run on it.
    """
    head = (
        "Made by `make peers`: MiniLM on the first training rows of IMDb, at most "
        "256 tokens; LoRA of rank 8 and alpha 16 on `query` and `value`, learning rate 1e-3, 3 "
        "epochs, batches of 16, dropout of 0.1 in the base, where no settings of its own are "
        "named. Each in a fresh process; total seconds and memory are of the whole process. Of "
        "several seeds, mean (and range) of what was judged, medians of seconds and memory; the "
        "95% interval (Wilson) is of the mean. Of tuned: training time as a part of the tuned "
        "Trainer's, median over seeds; contestants of one command ran in turns, others at "
        "another hour. Ludwig's training time holds its preparation of the rows, a tenth of which "
        "it keeps for validation; NeMo AutoModel's learning rate does not fall."
    )
    parts = [_section(name, kept) for name, kept in records.items()]
    return "\n\n".join([head, *parts]) + "\n"


def _section(name: str, kept: dict[str, Any]) -> str:
    parts = [f"## {name}"]
    parts.append(_classifiers(kept["classification"], kept["rows"], kept["test_rows"]))
    if "causal" in kept:
        parts.append(_writers(kept["causal"], kept["tokens"], kept["base_loss"]))
    scripts: dict[str, list[str]] = {}
    for script, command in kept["commands"].items():
        scripts.setdefault(command, []).append(script)
    told = [f"- `{command}`: {', '.join(names)}" for command, names in scripts.items()]
    return "\n\n".join([*parts, "\n".join(["What was run, for which script:", "", *told])])


def draw_classifiers(kept: dict[str, Any]) -> str:
    """Draw training times with accuracies beside them, as an SVG file."""
    runs, test_rows = kept["classification"], kept["test_rows"]
    ended = {name: [run for run in done if "error" not in run] for name, done in runs.items()}
    points = {
        name: (median(run["train_seconds"] for run in done), _accuracy(done, test_rows))
        for name, done in ended.items()
        if done
    }

    def draw(axes: Any) -> None:
        for place, (name, (seconds, accuracy)) in enumerate(reversed(points.items())):
            axes.barh(place, seconds, color=LORA if "lora_tune" in name else OTHER, alpha=0.6)
            beside = {"textcoords": "offset points", "xytext": (4, 0), "va": "center"}
            axes.annotate(f"{accuracy:.3f}", (seconds, place), color=INK, fontsize=8, **beside)
        axes.set_yticks(range(len(points)), list(reversed(points)), fontsize=8)
        axes.margins(x=0.15)
        axes.set_xlabel("seconds of training, and accuracy")

    told = "; ".join(
        f"{name} {acc:.3f} in {seconds:.0f} s" for name, (seconds, acc) in points.items()
    )
    return stand_alone(draw_picture(draw, f"Accuracy by seconds of training: {told}."))


def _accuracy(done: Sequence[Run], rows: int) -> float:
    return mean(run["correct"] for run in done) / rows


def _classifiers(runs: dict[str, list[Run]], trained: int, rows: int) -> str:
    def judge(done: list[Run]) -> list[str]:
        low, high = wilson_interval(round(_accuracy(done, rows) * rows), rows)
        return [_spread([run["correct"] / rows for run in done]), f"{low:.3f} to {high:.3f}"]

    told = f"{trained} training rows, and the first {rows} test rows answered, right in so many:"
    return f"{told}\n\n{_table(runs, ['accuracy', '95% interval'], judge)}"


def _writers(runs: dict[str, list[Run]], tokens: int, base: float) -> str:
    def judge(done: list[Run]) -> list[str]:
        rate = median(tokens / run["train_seconds"] for run in done)
        return [f"{rate:,.0f}", _spread([run["loss"] for run in done])]

    told = (
        f"A small GPT-2 on {tokens:,} tokens of reviews, LoRA on `c_attn`, one epoch, batches of "
        f"8; loss per token on test rows, {base:.3f} before:"
    )
    return f"{told}\n\n{_table(runs, ['tokens/s', 'loss'], judge)}"


def _spread(values: Sequence[float]) -> str:
    told = f"{mean(values):.3f}"
    return told if len(values) == 1 else f"{told} ({min(values):.3f} to {max(values):.3f})"


def _table(
    runs: dict[str, list[Run]], judged: Sequence[str], judge: Callable[[list[Run]], list[str]]
) -> str:
    """Make a table, and a list of each one's settings and faults below it."""
    headers = ["", *HEADERS[:2], *judged, *HEADERS[2:]]
    lines, below = [], []
    for name, done in runs.items():
        ended = [run for run in done if "error" not in run]
        line = {"": name, "version": done[0]["version"], "seeds": str(len(ended))}
        if ended:
            line |= dict(zip(judged, judge(ended), strict=True))
            line["train, s"] = f"{median(run['train_seconds'] for run in ended):,.1f}"
            line["of tuned"] = _part_of(done, runs.get(TUNED, []))
        if timed := ended or [run for run in done if "total_seconds" in run]:
            line["total, s"] = f"{median(run['total_seconds'] for run in timed):,.1f}"
            line["memory, MB"] = f"{median(run['peak_memory_bytes'] for run in timed) / 1e6:,.0f}"
        lines.append([line.get(word, "") for word in headers])
        told = [run.get("settings") or run.get("error") for run in done]
        below += [f"- {name}: {'; '.join(dict.fromkeys(filter(None, told)))}"] if any(told) else []
    table = tabulate(lines, headers, tablefmt="github", disable_numparse=True)
    return "\n".join([table, "", *below])


def _part_of(done: Sequence[Run], tuned: Sequence[Run]) -> str:
    """Tell a training time as a part of the tuned Trainer's with the same seed."""
    pairs = [
        (mine["train_seconds"], other["train_seconds"])
        for mine, other in zip(done, tuned, strict=False)
        if "error" not in mine and "error" not in other
    ]
    return f"{median(mine / other for mine, other in pairs):.2f}" if pairs else ""
