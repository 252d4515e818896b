"""Random tables, written in five formats, are the same rows and the same tokens everywhere."""

import csv
import json
import os

import pandas
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lora_tune.commands.input_rows import read_rows as read_input
from lora_tune.config.data import DataConfig
from lora_tune.data import delimited_file
from lora_tune.data.file_reader import read_file
from lora_tune.data.labeling import read_rows
from lora_tune.data.preprocessing import Preprocessor
from lora_tune.data.splits import fingerprint_rows
from lora_tune.system import cache
from lora_tune.tasks import make_task
from tests.tiny import make_tokenizer

TASK = make_task("sequence_classification")
TOKENIZER = make_tokenizer("gpt2")
CONFIG = DataConfig(max_length=64)
FORMATS = ["csv", "tsv", "json", "jsonl", "parquet"]
LABELS = ["01", "1", "1.0", "-1", "true", "True", "None", "null", "a,b", 'say "no"', "é", "e\u0301"]
# Words that a reader could take for a number, a date, a missing value, a quotation or a break.
WORDS = [
    *("007", "1.10", "2E10", "1e400", "+3", "1_000", "12345678901234567890", "0x1F", "٣", "1,5"),
    *("2023-05-02", "02/05/2023", "10:30", "true", "False", "yes", "nan", "NaN", "None", "null"),
    *("NA", "N/A", "-", '"', '""', "'", "\\", '\\"', ",", ";", "\t", "|", "\n", "\r\n", "\r"),
    *(" ", "\u00a0", "\u2028", "\ufeff", "\x00", "\x1f", "😡", "👩\u200d👧", "🇩🇪", "e\u0301"),
    *("שלום", "مرحبا", "हिन्दी", "ไทย", "中文", "{x}", "[1]", '{"a": 1}', "#", "=1+1", "PAR1"),
]
CHARACTERS = st.characters(exclude_categories=["Cs"])
TEXTS = st.lists(st.one_of(st.sampled_from(WORDS), st.text(CHARACTERS, max_size=8)), max_size=5)
TEXT = TEXTS.map("".join).filter(str.strip)
ROWS = st.lists(
    st.tuples(TEXT, st.sampled_from(LABELS), st.text(CHARACTERS)), min_size=1, max_size=6
)
EXAMPLES = int(os.environ.get("HYPOTHESIS_EXAMPLES", "2000"))


@pytest.fixture(autouse=True)
def no_cache(monkeypatch):
    monkeypatch.setenv(cache.VARIABLE, "")


def write(path, rows):
    names = ("text", "label", "note")
    if path.suffix in (".csv", ".tsv"):
        with path.open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file, delimiter="," if path.suffix == ".csv" else "\t")
            table.writerows([names, *rows])
        return
    objects = [dict(zip(names, row, strict=True)) for row in rows]
    if path.suffix == ".parquet":
        pandas.DataFrame(objects).to_parquet(path)
    elif path.suffix == ".json":
        path.write_text(json.dumps(objects), encoding="utf-8")
    else:
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in objects)
        path.write_text("".join(lines), encoding="utf-8", newline="")


def check_formats(folder, rows):
    """Check that a table is read the same from every format, for training and for prediction."""
    expected = [{"text": text, "label": label, "note": note or None} for text, label, note in rows]
    labels = sorted({label for _, label, _ in rows})
    fingerprints, tokens = set(), []
    for suffix in FORMATS:
        path = folder / f"rows.{suffix}"
        write(path, rows)
        table = read_file(path).check()
        assert list(table.rows()) == expected
        labeled = read_rows("data", table, CONFIG, TASK, labels=labels, origin="rows")
        assert labeled.label_texts == [row["label"] for row in expected]
        fingerprints.add(fingerprint_rows({"train": labeled}))
        encoded, _ = TASK.tokenize(labeled.inputs[:], labeled.labels, TOKENIZER, 64)
        tokens.append(encoded["input_ids"])
        given_rows, _ = read_input(str(path), Preprocessor(TASK, CONFIG, TOKENIZER))
        inputs = [row.task_input for row in given_rows]
        assert TASK.tokenize(inputs, None, TOKENIZER, 64)[0]["input_ids"] == tokens[-1]
    assert len(fingerprints) == 1
    assert all(own == tokens[0] for own in tokens)


OPTIONS = {
    "deadline": None,
    "database": None,
    "suppress_health_check": [HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
}


@pytest.mark.slow
@settings(max_examples=EXAMPLES, **OPTIONS)
@given(rows=ROWS)
def test_every_format_gives_the_same_rows_and_tokens(tmp_path, rows):
    check_formats(tmp_path, rows)


def guess_number(cell):
    try:
        return str(int(cell))
    except ValueError:
        return cell


@pytest.mark.parametrize("guess", [guess_number, str.strip], ids=["numbers", "spaces"])
def test_a_planted_guess_is_found(tmp_path, monkeypatch, guess):
    plain = delimited_file.collect_table

    def collect(records, *arguments, **options):
        guessed = (
            record._replace(
                cells={name: cell and guess(cell) for name, cell in record.cells.items()}
            )
            for record in records
        )
        return plain(guessed, *arguments, **options)

    monkeypatch.setattr(delimited_file, "collect_table", collect)

    @settings(max_examples=300, **OPTIONS)
    @given(rows=ROWS)
    def check(rows):
        check_formats(tmp_path, rows)

    with pytest.raises(AssertionError):
        check()
