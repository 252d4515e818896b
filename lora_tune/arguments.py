"""What may stand on the command line: verbs, their arguments and options."""

import argparse
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from lora_tune.choices import COMBINATIONS, DTYPES, INPUT_FORMATS


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse a command line, or leave with exit code 2 and what is wrong with it.

    Returns:
        Its options; `verb` is the name of the verb.
    """
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    if rest and not (hasattr(options, "overrides") and all(map(is_override, rest))):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        options.overrides += rest  # those after --output
    return options


def is_override(word: str) -> bool:
    """Whether a word of the command line is a recipe's `key=value`."""
    return "=" in word and not word.startswith("-")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lora-tune", description="Fine-tune a model with LoRA, and know that it worked."
    )
    parser.add_argument("--version", action="version", version=f"lora_tune {version('lora-tune')}")
    verbs = parser.add_subparsers(title="verbs", required=True, metavar="VERB")
    train = _verb(verbs, "train", "train a recipe's adapter and compare it with its base")
    train.add_argument("recipe", metavar="RECIPE", help="a name in recipes/, or a path")
    train.add_argument("overrides", metavar="key=value", nargs="*", help="such as lora.rank=16")
    train.add_argument("--output", metavar="DIR", type=Path, help="the run directory")
    predict = _verb(verbs, "predict", "answer texts, or rows of several columns")
    _adapter(predict)
    given = predict.add_mutually_exclusive_group(required=True)
    given.add_argument("--text", metavar="T", nargs="+", help="texts")
    given.add_argument(
        "--row",
        metavar="COLUMN=TEXT",
        nargs="+",
        action="append",
        type=_cell,
        help="a row, where the adapter asks for several columns; may be given again",
    )
    given.add_argument(
        "--input",
        metavar="FILE",
        help="txt, csv, tsv, jsonl, json or parquet; - for standard input",
    )
    predict.add_argument(
        "--column", metavar="NAME", help="of texts in the input (default: the recipe's)"
    )
    predict.add_argument(
        "--format", choices=INPUT_FORMATS, help="of the input (default: its suffix; txt from -)"
    )
    predict.add_argument(
        "--output", metavar="FILE", help="csv or jsonl; - for standard output, as jsonl"
    )
    evaluate = _verb(verbs, "evaluate", "compare a saved adapter with its base again")
    _adapter(evaluate)
    _data(evaluate)
    evaluate.add_argument("--output", metavar="FILE", type=Path, help="the comparison, as json")
    merge = _verb(verbs, "merge", "merge adapters into their base: a plain model")
    _adapter(merge, nargs="+")
    _data(merge)
    merge.add_argument("--output", metavar="DIR", type=Path, required=True, help="of the model")
    merge.add_argument("--dtype", choices=DTYPES, default="float32", help="of the weights")
    merge.add_argument(
        "--combine",
        choices=COMBINATIONS,
        help="several adapters: linear (default) adds up their changes exactly; others as in PEFT",
    )
    merge.add_argument("--weights", metavar="W", nargs="+", type=float, help="one for each adapter")
    merge.add_argument(
        "--density", metavar="D", type=_share, help="kept by ties and dare (default: 0.5)"
    )
    merge.add_argument("--force", action="store_true", help="write it however far it is off")
    push = _verb(verbs, "push", "send an adapter to the Hub")
    _adapter(push, base=False)
    push.add_argument("repository", metavar="REPO_ID", help="owner/name")
    push.add_argument("--private", action="store_true", help="where the repository is new")
    push.add_argument("--revision", metavar="BRANCH", help="made where needed (default: main)")
    push.add_argument("--dry-run", action="store_true", help="show what would go up, send nothing")
    report = _verb(verbs, "report", "make a run's page, report.html, again")
    report.add_argument("run", metavar="RUN", type=Path, help="a run directory")
    compare = _verb(verbs, "compare", "compare runs on the same test rows")
    compare.add_argument("runs", metavar="RUN", nargs="+", type=Path, help="run directories")
    compare.add_argument(
        "--output",
        metavar="FILE",
        type=Path,
        default=Path("compare.html"),
        help="the page (default: compare.html)",
    )
    curve = _verb(verbs, "curve", "train on more and more rows: would more labels help?")
    curve.add_argument("recipe", metavar="RECIPE", help="a name in recipes/, or a path")
    curve.add_argument("overrides", metavar="key=value", nargs="*", help="such as lora.rank=16")
    curve.add_argument(
        "--rows",
        metavar="N,N",
        type=_counts,
        help="numbers of training rows (default: 250, 500, 1000 and so on, and all)",
    )
    curve.add_argument(
        "--output", metavar="DIR", type=Path, help="of the runs (default: curves/<recipe>)"
    )
    params = _verb(verbs, "params", "count what recipes train, without their weights")
    params.add_argument(
        "overrides", metavar="RECIPE", nargs="+", help="names or paths; key=value too"
    )
    return parser


def _adapter(
    parser: argparse.ArgumentParser, *, nargs: str | None = None, base: bool = True
) -> None:
    parser.add_argument(
        "adapter",
        metavar="ADAPTER",
        nargs=nargs,
        help="a directory, or a Hub id, owner/name[@revision]",
    )
    if base:
        parser.add_argument("--base", metavar="PLACE", help="of the base, if it has moved")


def _data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data", metavar="FILE", type=Path, help="labelled rows (default: the run's test rows)"
    )


def _share(word: str) -> float:
    share = float(word)
    if not 0 < share <= 1:
        raise argparse.ArgumentTypeError(f"must be above 0 and at most 1, got {word}")
    return share


def _cell(word: str) -> tuple[str, str]:
    column, found, text = word.partition("=")
    if not found:
        raise argparse.ArgumentTypeError(f"expected COLUMN=TEXT, got {word}")
    return column, text


def _counts(word: str) -> list[int]:
    try:
        return [int(part) for part in word.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected whole numbers such as 250,1000, got {word}"
        ) from None


def _verb(
    verbs: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    summary: str,
) -> argparse.ArgumentParser:
    parser = verbs.add_parser(name, help=summary, description=summary)
    parser.set_defaults(verb=name)
    return parser
