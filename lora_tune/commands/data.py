"""`data`: the rows that a recipe reads, as the model gets them, and what was found in them."""

import argparse
import csv
from pathlib import Path

from lora_tune.commands.output import show
from lora_tune.commands.prediction_file import open_output
from lora_tune.commands.process_setup import prepare_process
from lora_tune.commands.shared_arguments import Verbs, add_recipe, add_verb
from lora_tune.config.redaction import redact
from lora_tune.data.file_reader import STREAM
from lora_tune.data.splits import Data, load_data
from lora_tune.errors import DataError
from lora_tune.models.checkpoint import resolve_checkpoint
from lora_tune.models.tokenizer import load_tokenizer
from lora_tune.report.data_preview import SHOWN_ROWS
from lora_tune.report.tables import data_table
from lora_tune.tasks import make_task
from lora_tune.tasks.recipes import load_recipe

COLUMNS = ("split", "row", "id", "text", "label")


def add_parser(verbs: Verbs) -> argparse.ArgumentParser:
    """Add `data` to the command line."""
    parser = add_verb(
        verbs, "data", "show the rows as the model gets them, and what was found in them"
    )
    add_recipe(parser)
    parser.add_argument(
        "--rows",
        metavar="N",
        type=_parse_count,
        default=SHOWN_ROWS,
        help=f"how many training rows to show (default: {SHOWN_ROWS})",
    )
    parser.add_argument(
        "--csv",
        metavar="FILE",
        type=Path,
        help="also write all rows as read: split, row number in its file, id, text, label",
    )
    return parser


def run(options: argparse.Namespace) -> None:
    """Read and tokenize the rows of a recipe, and print what was found; loads no weights."""
    recipe = load_recipe(options.recipe, options.overrides)
    if options.csv:
        _check_path(options.csv)
    prepare_process()
    task = make_task(recipe.task)
    checkpoint = resolve_checkpoint(recipe.model, weights=False)
    tokenizer = load_tokenizer(checkpoint, recipe.model, data=recipe.data)
    data = load_data(recipe.data, task, tokenizer)
    if options.csv:
        write_rows(data, options.csv)
    show(
        data_table(
            data,
            recipe.source_as_written,
            task=task,
            tokenizer=tokenizer,
            shown_rows=options.rows,
        )
    )
    if options.csv:
        show(f"Rows: {options.csv}")


def write_rows(data: Data, path: Path) -> None:
    """Write the rows of all splits, as people read them and without secrets, to a csv file.

    Args:
        data: the splits.
        path: of the file; it is replaced only when all rows are written.

    Raises:
        DataError: the file is one that the rows were read from, or it cannot be written.
    """
    for split in data.splits.values():
        origin = Path(split.rows.origin)
        if path.exists() and origin.exists() and path.samefile(origin):
            raise DataError(f"--csv {path}: the recipe reads its rows from it; name another file")
    with open_output(str(path), argument="--csv") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        for name, split in data.splits.items():
            rows = split.rows
            ids = [""] * len(rows.texts) if rows.ids is None else rows.ids
            columns = (rows.row_numbers, ids, rows.texts, rows.label_texts)
            for number, own, text, label in zip(*columns, strict=True):
                table.writerow((name, number, own, redact(text), redact(label)))


def _check_path(path: Path) -> None:
    """Check that a file can be written there, before rows are read."""
    if str(path) == STREAM or path.is_dir() or not path.parent.is_dir():
        raise DataError(f"--csv {path}: expected a file in a folder that exists")


def _parse_count(word: str) -> int:
    if not word.isascii() or not word.isdigit() or int(word) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {word}")
    return int(word)
