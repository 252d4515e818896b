"""CoNLL files with the variations that real ones have."""

import pytest

from lora_tune.data.conll import read_conll
from lora_tune.errors import DataError


@pytest.mark.parametrize(
    "content",
    [
        b"Ann\tB-per\nlives\tO\n\nHi\tO\n",
        b"Ann\tB-per\r\nlives\tO\r\n\t\r\nHi\tO",
        b"\xef\xbb\xbf-DOCSTART- -X- O O\n\nAnn NNP B-NP B-per\nlives VB B-VP O\n\n\nHi UH O O\n\n",
    ],
    ids=["tabs", "carriage returns, a tab in a blank line", "four columns, byte-order mark"],
)
def test_sentences(tmp_path, content):
    path = tmp_path / "train.conll"
    path.write_bytes(content)
    rows = read_conll(path, "train.conll", None)
    assert rows.column("words") == ['["Ann", "lives"]', '["Hi"]']
    assert rows.column("tags") == ['["B-per", "O"]', '["O"]']


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"Ann\tB-per\nlives\n", "line 2: found 'lives', expected a word and its tag"),
        (b"Ann\t\n", "line 1: found 'Ann\\\\t', expected a word and its tag"),
        (b"Ann\tO\n\xff\tO\n", "line 2: found the byte 0xFF, which is not UTF-8"),
    ],
)
def test_malformed_lines_are_reported_with_their_number(tmp_path, content, words):
    path = tmp_path / "train.conll"
    path.write_bytes(content)
    with pytest.raises(DataError, match=words):
        read_conll(path, str(path), None)
