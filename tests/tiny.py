"""Small real models: true architectures with random weights, and tokenizers of the true kinds."""

import csv
import json
import re
import string
from collections import Counter
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
    "bart": {
        "d_model": 32,
        "encoder_layers": 2,
        "decoder_layers": 2,
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 4,
        "encoder_ffn_dim": 64,
        "decoder_ffn_dim": 64,
    },
    "t5": {
        "d_model": 32,
        "d_kv": 8,
        "d_ff": 64,
        "num_layers": 2,
        "num_heads": 4,
        "decoder_start_token_id": 0,
    },
    "llama": {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": 512,
    },
}


def reviews(split="train"):
    """Texts and labels of the embedded reviews."""
    with (EMBEDDED / "movie_reviews" / f"{split}.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [row["text"] for row in rows], [row["label"] for row in rows]


def make_tokenizer(family):
    """Make a tokenizer of a family's real kind, with its real special tokens.

    Its vocabulary is counted here: the library's trainers break ties differently in each process.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    if family in ("distilbert", "bert"):
        special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        words = Counter(word for text in reviews()[0] for word in re.findall(r"\w+", text.lower()))
        letters = sorted({letter for word in words for letter in word} | set(string.punctuation))
        frequent = sorted(words, key=lambda word: (-words[word], word))[:VOCABULARY]
        pieces = dict.fromkeys([*special, *letters, *(f"##{c}" for c in letters), *frequent])
        vocabulary = {piece: number for number, piece in enumerate(pieces)}
        inner = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
        inner.normalizer = normalizers.BertNormalizer(lowercase=family == "distilbert")
        inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        inner.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
        names = dict(zip(("pad", "unk", "cls", "sep", "mask"), special, strict=True))
        limit = 512
    elif family == "t5":
        names = {"pad": "<pad>", "eos": "</s>", "unk": "<unk>"}
        letters = sorted(
            {letter for text in reviews()[0] for letter in text} | set(string.printable)
        )
        pieces = [*names.values(), *(f"\u2581{c}" for c in letters), "\u2581", *letters]
        scores = [(piece, -float(number)) for number, piece in enumerate(dict.fromkeys(pieces))]
        inner = Tokenizer(models.Unigram(scores, unk_id=2))
        inner.pre_tokenizer = pre_tokenizers.Metaspace()
        inner.decoder = decoders.Metaspace()
        inner.post_processor = processors.TemplateProcessing(
            single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
        )
        limit = 512
    else:
        special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
        names = {"bos": "<s>", "cls": "<s>", "pad": "<pad>", "eos": "</s>", "sep": "</s>"}
        names |= {"unk": "<unk>", "mask": "<mask>"}
        limit = 512
        if family == "gpt2":
            special = ["<|endoftext|>"]
            names = {"bos": "<|endoftext|>", "eos": "<|endoftext|>"}
            limit = 1024
        pieces = [*special, *sorted(pre_tokenizers.ByteLevel.alphabet())]
        vocabulary = {piece: number for number, piece in enumerate(pieces)}
        inner = Tokenizer(models.BPE(vocabulary, merges=[]))
        inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        inner.decoder = decoders.ByteLevel()
        if family in ("roberta", "bart"):
            inner.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        model_max_length=limit,
        **{f"{name}_token": token for name, token in names.items()},
    )


def make_base(folder, name, *, auto_class="AutoModel", seed=0, **changes):
    """Write a shrunken base model of a real configuration, with random weights.

    Args:
        name: of a folder in benchmarks/base_configs, or llama.
        auto_class: what the checkpoint holds: AutoModel, or AutoModelForMaskedLM.
    """
    import torch
    import transformers

    kept = ROOT / "benchmarks/base_configs" / name / "config.json"
    content = json.loads(kept.read_text()) if kept.is_file() else {"model_type": name}
    tokenizer = make_tokenizer(content["model_type"])
    content |= SMALLER[content["model_type"]] | {"vocab_size": len(tokenizer)} | changes
    for key in ("bos_token_id", "eos_token_id"):
        if key in content or not kept.is_file():
            content[key] = getattr(tokenizer, key)
    torch.manual_seed(seed)
    config = transformers.AutoConfig.for_model(**content)
    getattr(transformers, auto_class).from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
