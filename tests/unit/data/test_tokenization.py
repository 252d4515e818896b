"""Texts become token IDs: truncated and counted."""

import pytest

from lora_tune.data.tokenization import tokenize_texts
from tests.tiny import make_tokenizer


@pytest.mark.parametrize("side", ["left", "right"])
def test_truncation_on_each_side_and_token_counts_before_it(side):
    tokenizer = make_tokenizer("bert")
    tokenizer.truncation_side = side
    text = " ".join(str(i) for i in range(40))
    whole = tokenizer(text)["input_ids"]
    columns, counts = tokenize_texts(["short", text], tokenizer, 10)
    start, end = (whole[0], whole[-1])
    inner = whole[1:-1][-8:] if side == "left" else whole[1:-1][:8]
    assert columns["input_ids"][1] == [start, *inner, end]
    assert counts.tolist() == [len(tokenizer("short")["input_ids"]), len(whole)]
