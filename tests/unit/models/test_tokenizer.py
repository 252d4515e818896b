"""The tokenizer of a base model, and the chat template that it must have for chats."""

import pytest

from lora_tune.config.data import DataConfig
from lora_tune.config.model import ModelConfig
from lora_tune.errors import ModelError
from lora_tune.models.checkpoint import resolve_checkpoint
from lora_tune.models.tokenizer import load_tokenizer
from tests.chat_templates import CHATML
from tests.tiny import make_base, make_tokenizer


def test_a_missing_chat_template_is_reported_before_weights_load(tmp_path):
    model = ModelConfig(name=str(make_base(tmp_path / "base", "gpt2")))
    checkpoint = resolve_checkpoint(model)
    data = DataConfig(messages="talk", max_length=64)
    with pytest.raises(ModelError, match=r"has no chat template; set data\.chat_template"):
        load_tokenizer(checkpoint, model, data=data)
    given = DataConfig(messages="talk", chat_template=CHATML)
    assert load_tokenizer(checkpoint, model, data=given).chat_template == CHATML
    several = make_tokenizer("gpt2")
    several.chat_template = {"default": CHATML, "tool_use": "no"}
    several.save_pretrained(tmp_path / "base")
    assert load_tokenizer(checkpoint, model, data=data).chat_template == CHATML
