"""Which files of a checkpoint are fetched."""

from fnmatch import fnmatch

from lora_tune.models.checkpoint import SMALL_FILES
from tests.chat_templates import CHATML
from tests.tiny import make_tokenizer


def test_a_chat_template_is_fetched_with_its_tokenizer(tmp_path):
    tokenizer = make_tokenizer("bert")
    tokenizer.chat_template = CHATML
    tokenizer.save_pretrained(tmp_path)
    files = [path.name for path in tmp_path.iterdir()]
    assert "chat_template.jinja" in files
    assert all(any(fnmatch(name, pattern) for pattern in SMALL_FILES) for name in files)
