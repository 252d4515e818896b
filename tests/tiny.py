"""Tiny models: real architectures with random weights, and tokenizers of the real types."""

import csv
import json
import re
import string
from collections import Counter
from pathlib import Path

from lora_tune.data.sources import EMBEDDED
from tests.tiny_tokenizers import KINDS

ROOT = Path(__file__).parents[1]
VOCABULARY = 600
# What is smaller, by model_type; everything else is as in the real configuration.
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
    "electra": {
        "embedding_size": 16,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
    },
    # Its attention reads normalized states.
    "roberta-prelayernorm": {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
    },
    # Bottlenecks narrow what attention reads; it has more layers than networks in each layer.
    "mobilebert": {
        "embedding_size": 16,
        "hidden_size": 32,
        "intra_bottleneck_size": 16,
        "num_hidden_layers": 5,
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
    "llama": {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 64,
    },
    "qwen2": {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 64,
    },
    # An odd number of heads, which share one key and one value.
    "falcon": {"hidden_size": 40, "num_hidden_layers": 2, "num_attention_heads": 5},
    # Buckets so few that distances of short texts share them.
    "deberta-v2": {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "position_buckets": 8,
    },
    # One layer of global attention, two with a window of eight tokens on each side, one global.
    "modernbert": {
        "hidden_size": 32,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "local_attention": 16,
    },
    "t5": {
        "d_model": 32,
        "d_kv": 8,
        "d_ff": 64,
        "num_layers": 2,
        "num_decoder_layers": 2,
        "num_heads": 4,
    },
}
# The class of checkpoints that come with a head, which a task may use or not.
CHECKPOINTS = {
    "llama": "AutoModelForCausalLM",
    "qwen2": "AutoModelForCausalLM",
    "falcon": "AutoModelForCausalLM",
    "deberta-v2": "AutoModelForMaskedLM",
    "modernbert": "AutoModelForMaskedLM",
    "t5": "AutoModelForSeq2SeqLM",
}
# The tokenizer type, where an architecture has several.
OWN_TOKENIZER = {"TinyLlama/TinyLlama-1.1B-intermediate-step-1431k-3T": "llama-2"}


def reviews(split="train"):
    """Texts and labels of the embedded reviews."""
    with (EMBEDDED / "movie_reviews" / f"{split}.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [row["text"] for row in rows], [row["label"] for row in rows]


def make_tokenizer(family):
    """Make a tokenizer of a model family's real type, with its real special tokens.

    Words are counted here, since the library's trainers break ties differently in each process.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    if family in KINDS:
        words = Counter(word for text in reviews()[0] for word in text.split() if word.isascii())
        frequent = sorted(words, key=lambda word: (-words[word], word))[:VOCABULARY]
        return KINDS[family]({word: words[word] for word in frequent})
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


def make_base(folder, name, *, auto_class=None, seed=0, **changes):
    """Write a tiny base model of a real architecture, with random weights.

    Args:
        name: of a folder in benchmarks/base_configs, or llama.
        auto_class: the checkpoint's; None for that of the real one, or AutoModel.
    """
    import torch
    import transformers

    kept = ROOT / "benchmarks/base_configs" / name / "config.json"
    content = json.loads(kept.read_text()) if kept.is_file() else {"model_type": name}
    tokenizer = make_tokenizer(OWN_TOKENIZER.get(name, content["model_type"]))
    content |= SMALLER[content["model_type"]] | {"vocab_size": len(tokenizer)} | changes
    for key in ("bos_token_id", "cls_token_id", "eos_token_id", "sep_token_id", "pad_token_id"):
        if key in content or not kept.is_file():
            content[key] = getattr(tokenizer, key)
    torch.manual_seed(seed)
    config = transformers.AutoConfig.for_model(**content)
    auto_class = auto_class or CHECKPOINTS.get(content["model_type"], "AutoModel")
    model = getattr(transformers, auto_class).from_config(config)
    if content["model_type"] == "t5":  # transformers ties them; Flan-T5's are not tied
        model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.lm_head.weight))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
