"""Tokenizers that are only a SentencePiece model, as that of DeBERTa on the Hub."""

import io
import sys

import pytest

from lora_tune.errors import ModelError
from tests.parts import Parts
from tests.tiny import make_base, reviews


@pytest.fixture
def base(tmp_path):
    """A tiny DeBERTa without tokenizer.json."""
    folder = make_base(tmp_path / "base", "microsoft/deberta-v3-base")
    for file in folder.glob("*token*.json"):
        file.unlink()
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": false, "vocab_type": "spm"}')
    return folder


def test_it_is_converted_to_a_fast_tokenizer(base, tmp_path):
    sentencepiece = pytest.importorskip("sentencepiece")
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(reviews()[0]),
        model_writer=model,
        vocab_size=600,
        pad_id=0,
        bos_id=1,
        eos_id=2,
        unk_id=3,
        pad_piece="[PAD]",
        bos_piece="[CLS]",
        eos_piece="[SEP]",
        unk_piece="[UNK]",
        minloglevel=2,
    )
    (base / "spm.model").write_bytes(model.getvalue())
    parts = Parts(base)
    pair = parts.tokenizer("It was good.", "Not a fan.")
    tokens = parts.tokenizer.convert_ids_to_tokens(pair["input_ids"])
    assert tokens[:3] == ["[CLS]", "▁It", "▁was"]
    assert tokens.count("[SEP]") == 2
    assert pair["token_type_ids"][0] == 0
    assert pair["token_type_ids"][-1] == 1
    parts.attach()
    parts.save(tmp_path / "a")
    assert (
        tmp_path / "a" / "tokenizer.json"
    ).is_file()  # so sentencepiece is not needed to load it


def test_a_missing_sentencepiece_package_is_reported(base, monkeypatch):
    (base / "spm.model").write_bytes(b"not read")
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    with pytest.raises(ModelError, match=r"pip install 'lora-tune\[sentencepiece\]'$"):
        Parts(base)
