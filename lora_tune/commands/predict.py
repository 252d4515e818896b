"""`predict`: predictions for texts, or for rows of several columns."""

import argparse
from collections.abc import Sequence

from lora_tune.artifacts.saved_adapter import load_predictor, load_preprocessor
from lora_tune.artifacts.saved_model import find_model
from lora_tune.commands.input_rows import InputRow, make_rows, read_rows
from lora_tune.commands.output import show, show_error
from lora_tune.commands.prediction_file import (
    check_output,
    describe_bad_rows,
    open_prediction_file,
    predict_rows,
)
from lora_tune.commands.process_setup import prepare_process
from lora_tune.commands.shared_arguments import Verbs, add_adapter, add_base, add_verb
from lora_tune.data.file_reader import FORMATS
from lora_tune.data.preprocessing import Preprocessor
from lora_tune.data.table_checks import PROBABILITY_PREFIX
from lora_tune.errors import DataError
from lora_tune.report.tables import format_cell, format_table, shorten_text
from lora_tune.tasks import Prediction


def add_parser(verbs: Verbs) -> argparse.ArgumentParser:
    """Add `predict` to the command line."""
    parser = add_verb(verbs, "predict", "predict for texts, or for rows of several columns")
    add_adapter(parser)
    add_base(parser)
    rows = parser.add_mutually_exclusive_group(required=True)
    rows.add_argument("--text", metavar="T", nargs="+", help="one or more texts")
    rows.add_argument(
        "--row",
        metavar="COLUMN=TEXT",
        nargs="+",
        action="append",
        type=_parse_cell,
        help="one row, for an adapter that needs several columns; repeat for more rows",
    )
    rows.add_argument(
        "--input",
        metavar="FILE",
        help="a csv, tsv, jsonl, json, parquet, xlsx or txt file; - for standard input",
    )
    parser.add_argument(
        "--column",
        metavar="NAME",
        help="the column of the input with the texts (default: the recipe's)",
    )
    parser.add_argument(
        "--format",
        choices=FORMATS,
        help="of the input (default: its file extension; txt for standard input)",
    )
    parser.add_argument(
        "--output", metavar="FILE", help="a csv or jsonl file; - for standard output, as jsonl"
    )
    return parser


def run(options: argparse.Namespace) -> None:
    """Predict, and print or write the predictions.

    Raises:
        LoraTuneError: an option, the adapter or its base model is wrong; or some rows are bad,
            which is reported after the others are predicted.
    """
    prepare_process()
    if options.output:
        check_output(options.output, options.input)
    saved = find_model(options.adapter)
    rows = _read_input(options, load_preprocessor(saved))
    predictor = load_predictor(saved, options.base)
    columns = predictor.task.prediction_columns(predictor.labels)
    if options.output:
        with open_prediction_file(options.output, rows, columns) as write:
            predict_rows(predictor, rows, write)
    else:
        predictions: list[tuple[InputRow, Prediction | None]] = []
        predict_rows(predictor, rows, lambda row, found: predictions.append((row, found)))
        show(prediction_table(predictions, columns))
    source = options.input or ("--text" if options.text else "--row")
    problems = describe_bad_rows(source, rows)
    if problems:
        raise DataError(problems)


def prediction_table(
    predictions: Sequence[tuple[InputRow, Prediction | None]], columns: Sequence[str]
) -> str:
    """Format each row with its prediction and the columns of it; a bad row with its problem.

    Args:
        predictions: rows, each with its prediction; None for a bad row.
        columns: of a prediction; see `Task.prediction_columns`.
    """
    if list(columns) == ["completion"]:  # shown in full, after its prompt
        texts = [
            [shorten_text(row.text or row.problem or ""), "" if found is None else found.label]
            for row, found in predictions
        ]
        return format_table(texts, ["text", *columns])
    rows = []
    for row, found in predictions:
        if found is None:
            empty = [""] * len(columns)
            rows.append([*empty, shorten_text(row.problem or "")])
        else:
            cells = found.cells()
            shown = [format_cell(cells[name]) for name in columns[1:]]
            rows.append([found.label, *shown, shorten_text(row.text)])
    others = [name.removeprefix(PROBABILITY_PREFIX) for name in columns[1:]]
    return format_table(rows, [columns[0], *others, "text"])


def _read_input(options: argparse.Namespace, preprocessor: Preprocessor) -> list[InputRow]:
    if options.input:
        rows, notes = read_rows(options.input, preprocessor, options.column, options.format)
        for note in notes:
            show_error(f"Note: {note}")
        return rows
    if options.text:
        return make_rows(options.text, preprocessor)
    for cells in options.row:
        if len(dict(cells)) < len(cells):
            raise DataError("--row: names a column twice; start each row with its own --row")
    return make_rows([dict(cells) for cells in options.row], preprocessor)


def _parse_cell(word: str) -> tuple[str, str]:
    column, found, text = word.partition("=")
    if not found:
        raise argparse.ArgumentTypeError(f"expected COLUMN=TEXT, got {word}")
    return column, text
