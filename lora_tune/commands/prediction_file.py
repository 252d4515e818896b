"""Predictions for rows, in their order, and the csv or jsonl file that holds both."""

import csv
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from lora_tune.commands.input_rows import InputRow
from lora_tune.data.file_reader import STREAM
from lora_tune.errors import DataError
from lora_tune.evaluation.predictor import Predictor
from lora_tune.tasks import Prediction

OUTPUT_FORMATS = ("csv", "jsonl")
WINDOW_ROWS = 1024  # predicted together, batched by length; then written
MAX_SHOWN_ROWS = 20  # bad rows that are described
INPUT_PREFIX = "input."  # of an input column whose name is also an output column

WriteRow = Callable[[InputRow, Prediction | None], None]


def predict_rows(predictor: Predictor, rows: Sequence[InputRow], write: WriteRow) -> None:
    """Predict for rows, and pass on each row with its prediction, in order, window by window.

    Args:
        predictor: of the adapter.
        rows: good and bad ones.
        write: takes every row; the prediction of a bad row is None.
    """
    from tqdm import tqdm

    with tqdm(total=len(rows), desc="predict", unit="row", disable=None, leave=False) as bar:
        for start in range(0, len(rows), WINDOW_ROWS):
            window = rows[start : start + WINDOW_ROWS]
            inputs = [row.task_input for row in window if row.problem is None]
            predictions = iter(predictor.predict_inputs(inputs))
            for row in window:
                write(row, next(predictions) if row.problem is None else None)
            bar.update(len(window))


def describe_bad_rows(source: str, rows: Sequence[InputRow]) -> str:
    """Describe the problem of each bad row, up to MAX_SHOWN_ROWS; empty where all are good.

    Args:
        source: of the rows, for the message.
        rows: good and bad ones.
    """
    bad = [row for row in rows if row.problem is not None]
    if not bad:
        return ""
    lines = [
        f"{source}: row {row.number} (rows count from 0): {row.problem}"
        for row in bad[:MAX_SHOWN_ROWS]
    ]
    if len(bad) > MAX_SHOWN_ROWS:
        lines.append(f"... and {len(bad) - MAX_SHOWN_ROWS} more")
    lines.append(f"{len(bad)} of {len(rows)} rows have no prediction; their columns are left empty")
    return "\n".join(lines)


def check_output(output: str, source: str | None) -> None:
    """Check that predictions can be written, before they are made.

    Args:
        output: path of the file, or `-`.
        source: path of the input, or `-`; None where there is none.

    Raises:
        DataError: the output is no csv or jsonl file, its folder does not exist, or it is the
            input.
    """
    path = Path(output)
    if output == STREAM:
        return
    if path.suffix.removeprefix(".") not in OUTPUT_FORMATS:
        raise DataError(
            f"--output {path}: expected a .csv or .jsonl file, or - for standard output"
        )
    if path.is_dir() or not path.parent.is_dir():
        raise DataError(f"--output {path}: expected a file in a folder that exists")
    given = Path(source) if source and source != STREAM else None
    if given and given.exists() and path.exists() and path.samefile(given):
        raise DataError(f"--output {path}: is also the input; name another file")


@contextmanager
def open_prediction_file(
    output: str, rows: Sequence[InputRow], columns: Sequence[str]
) -> Iterator[WriteRow]:
    """Open a csv or jsonl file, or standard output as jsonl, for rows and their predictions.

    Args:
        output: path of the file, or `-`.
        rows: all that will be written; their columns are kept.
        columns: of a prediction.

    Yields:
        A function that writes one row.

    Raises:
        DataError: the file cannot be written.
    """
    input_columns = _rename_input_columns(rows, columns)
    with open_output(output, argument="--output") as file:
        table = csv.DictWriter(file, [*input_columns.values(), *columns])
        if output.endswith(".csv"):
            table.writeheader()

        def write(row: InputRow, prediction: Prediction | None) -> None:
            cells: dict[str, Any] = {
                input_columns[name]: cell for name, cell in row.columns.items()
            }
            cells |= dict.fromkeys(columns)
            if prediction is not None:
                cells |= prediction.cells()
            if output.endswith(".csv"):
                table.writerow({name: _csv_cell(cell) for name, cell in cells.items()})
            else:
                file.write(json.dumps(cells, ensure_ascii=False, default=str) + "\n")

        yield write


def _rename_input_columns(rows: Sequence[InputRow], columns: Sequence[str]) -> dict[str, str]:
    """Give the input's columns names in the output that no prediction's column has."""
    renamed: dict[str, str] = {}
    for name in {name: None for row in rows for name in row.columns}:
        renamed[name] = name
        while renamed[name] in columns or list(renamed.values()).count(renamed[name]) > 1:
            renamed[name] = INPUT_PREFIX + renamed[name]
    return renamed


def _csv_cell(cell: Any) -> Any:
    """Write lists and objects as JSON."""
    return json.dumps(cell, ensure_ascii=False) if isinstance(cell, (list, dict)) else cell


@contextmanager
def open_output(output: str, *, argument: str) -> Iterator[IO[str]]:
    """Open standard output, or a hidden file that is renamed when all rows are written.

    Args:
        output: path of the file, or `-`.
        argument: of the command line that names it, for the error.

    Raises:
        DataError: the file cannot be written.
    """
    # An unpaired surrogate, which JSON may hold, is written as its escape sequence.
    if output == STREAM:
        sys.stdout.reconfigure(  # type: ignore[union-attr]
            encoding="utf-8", errors="backslashreplace"
        )
        yield sys.stdout
        sys.stdout.flush()
        return
    final = Path(output).resolve()
    draft = final.with_name(f".{final.name}.{os.getpid()}.incomplete")
    try:
        with draft.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
            yield file
        draft.replace(final)
    except OSError as error:
        raise DataError(f"{argument} {output}: cannot be written: {error.strerror}") from None
    finally:
        draft.unlink(missing_ok=True)
