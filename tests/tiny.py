"""Small real models: true architectures with random weights, and tokenizers trained on the spot."""

import csv
import json
from pathlib import Path

from lora_tune.sources import EMBEDDED

ROOT = Path(__file__).parents[1]
VOCABULARY = 600
# What is shrunk, by model_type; everything else is as in the base's real configuration.
SMALLER = {
    "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64},
    "bert": {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
    },
    "roberta": {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
    },
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4},
}


def reviews(split="train"):
    """Texts and labels of the embedded reviews."""
    with (EMBEDDED / "movie_reviews" / f"{split}.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [row["text"] for row in rows], [row["label"] for row in rows]


def make_tokenizer(family):
    """Train a tokenizer of a family's real kind, with its real special tokens."""
    from tokenizers import (
        ByteLevelBPETokenizer,
        Tokenizer,
        models,
        normalizers,
        pre_tokenizers,
        processors,
        trainers,
    )
    from transformers import PreTrainedTokenizerFast

    texts, _ = reviews()
    if family in ("distilbert", "bert"):
        special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        inner = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        inner.normalizer = normalizers.BertNormalizer(lowercase=family == "distilbert")
        inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        inner.train_from_iterator(
            texts, trainers.WordPieceTrainer(vocab_size=VOCABULARY, special_tokens=special)
        )
        inner.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
        names = {
            "pad_token": "[PAD]",
            "unk_token": "[UNK]",
            "cls_token": "[CLS]",
            "sep_token": "[SEP]",
            "mask_token": "[MASK]",
        }
        return PreTrainedTokenizerFast(tokenizer_object=inner, model_max_length=512, **names)
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    if family == "gpt2":
        special = ["<|endoftext|>"]
    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(texts, vocab_size=VOCABULARY, special_tokens=special)
    inner = bpe._tokenizer
    if family == "gpt2":
        return PreTrainedTokenizerFast(
            tokenizer_object=inner,
            eos_token="<|endoftext|>",
            bos_token="<|endoftext|>",
            model_max_length=1024,
        )
    inner.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        bos_token="<s>",
        cls_token="<s>",
        pad_token="<pad>",
        eos_token="</s>",
        sep_token="</s>",
        unk_token="<unk>",
        mask_token="<mask>",
        model_max_length=512,
    )


def make_base(folder, name, *, auto_class="AutoModel", seed=0, **changes):
    """Write a shrunken base model of a real configuration, with random weights.

    Args:
        name: of a folder in benchmarks/base_configs.
        auto_class: what the checkpoint holds: AutoModel, or AutoModelForMaskedLM.
    """
    import torch
    import transformers

    content = json.loads((ROOT / "benchmarks/base_configs" / name / "config.json").read_text())
    tokenizer = make_tokenizer(content["model_type"])
    content |= SMALLER[content["model_type"]] | {"vocab_size": len(tokenizer)} | changes
    for key in ("bos_token_id", "eos_token_id"):
        if key in content:
            content[key] = getattr(tokenizer, key)
    torch.manual_seed(seed)
    config = transformers.AutoConfig.for_model(**content)
    getattr(transformers, auto_class).from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
