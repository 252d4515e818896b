"""Excel workbooks: the text of typed cells, and a one-line message for each that cannot be read."""

import datetime

import pytest

from lora_tune.data.file_reader import read_file
from lora_tune.errors import DataError

openpyxl = pytest.importorskip("openpyxl")


@pytest.fixture
def write(tmp_path):
    def write_sheets(*sheets):
        workbook = openpyxl.Workbook()
        workbook.remove(workbook.active)
        for number, rows in enumerate(sheets):
            sheet = workbook.create_sheet(f"sheet {number}")
            for row in rows:
                sheet.append(row)
        path = tmp_path / "rows.xlsx"
        workbook.save(path)
        return path

    return write_sheets


def test_cells_are_as_a_person_sees_them(write):
    day, time = datetime.date(2023, 5, 2), datetime.datetime(2023, 5, 2, 9, 30)
    path = write(
        [
            ["text", "label"],
            ["01000", 1],
            [1.5, True],
            [day, time],
            [None, None],
            ["a\nb", None],
        ]
    )
    table = read_file(path).check()
    assert list(table.rows()) == [
        {"text": "01000", "label": "1"},
        {"text": "1.5", "label": "true"},
        {"text": "2023-05-02", "label": "2023-05-02 09:30:00"},
        {"text": "a\nb", "label": None},
    ]
    assert table.place(3) == f"row 3 (rows count from 0), line 6 of {path}"
    assert table.notes == ()


def test_other_sheets_are_named(write):
    assert "read the sheet 'sheet 0' of 2" in read_file(write([["a"], ["b"]], [["c"]])).notes[0]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([["text", "text"], ["a", "b"]], "the column 'text' occurs twice"),
        ([["text"], ["a", "b"]], "row 0 (rows count from 0): found 'b' in a column without a name"),
        ([["text"], ["#N/A"]], "found the error #N/A in A2; correct the cell"),
        ([["text"]], "found a header, but no rows"),
        ([], "the first sheet is empty"),
    ],
)
def test_a_malformed_sheet_is_reported_in_one_line(write, rows, words):
    with pytest.raises(DataError) as caught:
        read_file(write(rows)).check()
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
