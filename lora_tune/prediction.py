"""Rows, good or bad, answered in their order and written out beside what they held."""

import csv
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from lora_tune.choices import OUTPUT_FORMATS
from lora_tune.errors import DataError
from lora_tune.input_rows import STREAM, InputRow
from lora_tune.predictor import Predictor
from lora_tune.tasks import Answer

WINDOW_ROWS = 1024  # answered together, batched by length; then written
SHOWN_FAULTS = 20
KEPT_AS = "input."  # before the name of an input column that an output column bears too


WriteRow = Callable[[InputRow, Answer | None], None]


def predict_rows(predictor: Predictor, rows: Sequence[InputRow], write: WriteRow) -> None:
    """Answer rows, and hand each on with its prediction, in order and as soon as can be.

    Args:
        write: takes every row; its prediction is None where the row is bad.
    """
    from tqdm import tqdm

    with tqdm(total=len(rows), desc="predict", unit="row", disable=None, leave=False) as bar:
        for start in range(0, len(rows), WINDOW_ROWS):
            window = rows[start : start + WINDOW_ROWS]
            predictions = iter(
                predictor.predict_inputs([r.given for r in window if r.fault is None])
            )
            for row in window:
                write(row, next(predictions) if row.fault is None else None)
            bar.update(len(window))


def describe_faults(source: str, rows: Sequence[InputRow]) -> str:
    """Name the bad rows, the first of them one by one; empty where there are none."""
    bad = [row for row in rows if row.fault is not None]
    if not bad:
        return ""
    lines = [f"{source}: row {r.number} (rows count from 0): {r.fault}" for r in bad[:SHOWN_FAULTS]]
    if len(bad) > SHOWN_FAULTS:
        lines.append(f"... and {len(bad) - SHOWN_FAULTS} more")
    lines.append(f"{len(bad)} of {len(rows)} rows were not answered; their columns are left empty")
    return "\n".join(lines)


def check_output(output: str, source: str | None) -> None:
    """Refuse a place where predictions cannot be written, before they are made.

    Raises:
        DataError: it is no csv or jsonl file, lies in no folder, or is the input itself.
    """
    path = Path(output)
    if output == STREAM:
        return
    if path.suffix.removeprefix(".") not in OUTPUT_FORMATS:
        raise DataError(
            f"--output {path}: expected a .csv or .jsonl file, or - for standard output"
        )
    if path.is_dir() or not path.parent.is_dir():
        raise DataError(f"--output {path}: expected a file in a folder that is there")
    given = Path(source) if source and source != STREAM else None
    if given and given.exists() and path.exists() and path.samefile(given):
        raise DataError(f"--output {path}: is the input; name another file")


@contextmanager
def writing_rows(output: str, rows: Sequence[InputRow], names: Sequence[str]) -> Iterator[WriteRow]:
    """Open a csv or jsonl file, or standard output as jsonl, for rows and their predictions.

    Args:
        rows: all that will be written; their columns are kept.
        names: of the columns of an answer.
    """
    kept: dict[str, str] = {}
    for name in {name: None for row in rows for name in row.columns}:
        kept[name] = name
        while kept[name] in names or list(kept.values()).count(kept[name]) > 1:
            kept[name] = KEPT_AS + kept[name]
    with _open_output(output) as file:
        table = csv.DictWriter(file, [*kept.values(), *names])
        if output.endswith(".csv"):
            table.writeheader()

        def write(row: InputRow, answer: Answer | None) -> None:
            cells: dict[str, Any] = {kept[name]: cell for name, cell in row.columns.items()}
            cells |= dict.fromkeys(names)
            if answer is not None:
                cells |= answer.cells()
            if output.endswith(".csv"):
                table.writerow({name: _flat(cell) for name, cell in cells.items()})
            else:
                file.write(json.dumps(cells, ensure_ascii=False, default=str) + "\n")

        yield write


def _flat(cell: Any) -> Any:
    """A cell of a csv file; what is no single value, as JSON."""
    return json.dumps(cell, ensure_ascii=False) if isinstance(cell, (list, dict)) else cell


@contextmanager
def _open_output(output: str) -> Iterator[IO[str]]:
    """Open standard output, or a hidden neighbour that becomes the file when all went well."""
    # Half a surrogate pair, which JSON may hold, is written as its escape.
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
        raise DataError(f"--output {output}: cannot be written: {error.strerror}") from None
    finally:
        draft.unlink(missing_ok=True)
