"""Parquet files: the text of every type, and columns that have none."""

import datetime
import decimal

import pandas
import pyarrow as pa
import pyarrow.parquet
import pytest

from lora_tune.config.data import DataConfig
from lora_tune.data.file_reader import read_file
from lora_tune.data.table_checks import check_columns
from lora_tune.errors import DataError
from lora_tune.tasks import make_task

MOMENT = datetime.datetime(2023, 5, 2, 9, 30)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pa.array(["01", "", None]), ["01", None, None]),
        (pa.array([1, None, -3]), ["1", None, "-3"]),
        (pa.array([1.0, 0.1, float("nan")]), ["1.0", "0.1", None]),
        (pa.array([1.0, 0.1, 2e20], pa.float32()), ["1.0", "0.1", "2e+20"]),
        (pa.array([True, False, None]), ["true", "false", None]),
        (pa.array([["a", "é"], [], None]), ['["a", "é"]', "[]", None]),
        (pa.array([{"a": 1.5, "b": None}] * 3), ['{"a": 1.5, "b": null}'] * 3),
        (pa.array([MOMENT] * 3), ["2023-05-02 09:30:00"] * 3),
        (pa.array([MOMENT.date()] * 3), ["2023-05-02"] * 3),
        (pa.array([decimal.Decimal("1.50")] * 3), ["1.50"] * 3),
        (pa.array([b"caf\xc3\xa9"] * 3), ["café"] * 3),
        (pa.array(["x", "y", "x"]).dictionary_encode(), ["x", "y", "x"]),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)
def test_every_type_has_one_text(tmp_path, values, expected):
    pa.parquet.write_table(pa.table({"text": values}), tmp_path / "a.parquet")
    assert read_file(tmp_path / "a.parquet").column("text") == expected


@pytest.mark.parametrize(
    "values",
    [
        pa.array([b"\xff\xfe"]),
        pa.array([b"\xff"]).view(pa.string()),
        pa.array([10**15], pa.timestamp("s")),
        pa.array(pandas.Series([pandas.Period("2023-05", "M")])),
        pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64())),
    ],
    ids=lambda value: str(value.type),
)
def test_a_column_without_text_matters_only_where_it_is_used(tmp_path, values):
    path = tmp_path / "a.parquet"
    pa.parquet.write_table(pa.table({"text": ["a"], "label": ["b"], "more": values}), path)
    table, task = read_file(path).check(), make_task("sequence_classification")
    check_columns(table, DataConfig(), task)
    if "more" in table.unreadable:
        with pytest.raises(DataError, match="column 'more' cannot be read as text"):
            check_columns(table, DataConfig(text="more"), task)
    else:
        assert table.column("more")[0]


def test_two_columns_of_one_name_are_refused(tmp_path):
    table = pa.Table.from_arrays([pa.array(["a"])] * 2, names=["text", "text"])
    pa.parquet.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(DataError, match="the column 'text' occurs twice"):
        read_file(tmp_path / "a.parquet")
