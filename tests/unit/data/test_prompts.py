"""Prompts: what a model is given for a row whose label is not known."""

import json

import pytest

from lora_tune.config.data import DataConfig
from lora_tune.data.prompts import input_columns, preprocess_prompt, render_prompt
from tests.chat_templates import CHATML
from tests.tiny import make_tokenizer

TALK = [
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello, you"},
    {"role": "user", "content": "And now?"},
    {"role": "assistant", "content": "Now hello, you"},
]


@pytest.mark.parametrize(
    ("data", "row", "prompt"),
    [
        ({"messages": "talk"}, {"talk": "Hi"}, "user\nHi"),
        ({"messages": "talk"}, {"talk": TALK}, "user\nAnd now?"),
        ({"messages": "talk"}, {"talk": json.dumps(TALK)}, "user\nAnd now?"),
        ({"messages": "talk"}, {"talk": f" {TALK[:1]}"}, "user\nHi"),
        ({"messages": "talk"}, {"talk": "[sic] Hi"}, "user\n[sic] Hi"),
        ({"messages": "talk"}, {"talk": "[1, 2]"}, "user\n[1, 2]"),
        ({"messages": "talk"}, {"talk": '["a"]'}, 'user\n["a"]'),
        ({"messages": "talk"}, {"talk": "[]"}, "user\n[]"),
        ({"prompt": "Say {word}", "chat_template": True}, {"word": "Hi"}, "user\nSay Hi"),
        (
            {"prompt": "{a} {b}", "chat_template": True, "system": "Be {mood}."},
            {"a": "Hi", "b": None, "mood": "kind"},
            "system\nBe kind.<|im_end|>\n<|im_start|>user\nHi",
        ),
    ],
)
def test_a_row_to_predict_is_rendered_as_in_training(data, row, prompt):
    config = DataConfig(completion="{out}" if "prompt" in data else None, **data)
    assert input_columns(config) == list(row)
    tokenizer = make_tokenizer("plain")
    tokenizer.chat_template = CHATML
    written = render_prompt(preprocess_prompt(row, config, tokenizer), tokenizer)
    assert written.endswith(f"<|im_start|>{prompt}<|im_end|>\n<|im_start|>assistant\n")
