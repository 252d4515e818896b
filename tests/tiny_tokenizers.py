"""Tiny tokenizers of the types that newer models have, of transformers' own classes."""

import math

from tests.chat_templates import CHATML

LETTERS = "".join(map(chr, range(33, 127)))


def make_llama_2(words):
    """SentencePiece BPE with byte fallback, as Llama 2 and TinyLlama have."""
    from transformers import LlamaTokenizer

    special = ["<unk>", "<s>", "</s>"]
    bytes_ = [f"<0x{number:02X}>" for number in range(256)]
    pieces = dict.fromkeys([*special, *bytes_, "▁", *LETTERS])
    merges = []
    for word in words:
        joined = "▁"
        for letter in word:
            if letter not in pieces:
                break
            if joined + letter not in pieces:
                merges.append((joined, letter))
                pieces[joined + letter] = None
            joined += letter
    made = LlamaTokenizer(vocab=_number(pieces), merges=merges, model_max_length=2048)
    return _begin(made, "<s>")


def make_llama_3(words):
    """Byte-level BPE with a start token and no pad token."""
    begin, end = "<|begin_of_text|>", "<|end_of_text|>"
    return _begin(_make_byte_level([begin, end], bos=begin, eos=end), begin)


def make_qwen_2(words):
    """Byte-level BPE without a start token, with tokens for the end of a turn and for padding."""
    from tokenizers import pre_tokenizers
    from transformers import Qwen2Tokenizer

    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    pieces = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *special]
    made = Qwen2Tokenizer(
        vocab=_number(pieces),
        merges=[],
        eos_token="<|im_end|>",
        additional_special_tokens=special[1:],
    )
    made.chat_template = CHATML
    return made


def make_falcon(words):
    """Byte-level BPE with an end token and no pad token."""
    return _make_byte_level(["<|endoftext|>"], eos="<|endoftext|>")


def make_modernbert(words):
    """Byte-level BPE with BERT's special tokens."""
    from tokenizers import processors

    special = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"]
    names = {token[1:-1].lower(): token for token in special}
    made = _make_byte_level(special, **names)
    made.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B [SEP]",
        special_tokens=[(name, made.convert_tokens_to_ids(name)) for name in ("[CLS]", "[SEP]")],
    )
    return made


def make_deberta_v2(words):
    """SentencePiece unigrams with BERT's special tokens."""
    from transformers import DebertaV2Tokenizer

    special = ["[PAD]", "[CLS]", "[SEP]", "[UNK]"]
    return DebertaV2Tokenizer(vocab=[*_score(special, words), ("[MASK]", 0.0)], unk_id=3)


def make_t5(words):
    """SentencePiece unigrams with an end token and a hundred sentinel tokens."""
    from transformers import T5Tokenizer

    sentinels = [(f"<extra_id_{number}>", 0.0) for number in reversed(range(100))]
    vocabulary = [*_score(["<pad>", "</s>", "<unk>"], words), *sentinels]
    return T5Tokenizer(vocab=vocabulary, model_max_length=512)


KINDS = {
    "llama-2": make_llama_2,
    "llama": make_llama_3,
    "qwen2": make_qwen_2,
    "falcon": make_falcon,
    "modernbert": make_modernbert,
    "deberta-v2": make_deberta_v2,
    "t5": make_t5,
}


def _make_byte_level(special, **names):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    pieces = [*special, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    inner = Tokenizer(models.BPE(_number(pieces), merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    tokens = {f"{name}_token": token for name, token in names.items()}
    return PreTrainedTokenizerFast(tokenizer_object=inner, **tokens)


def _begin(tokenizer, token):
    """Add a start token to each text."""
    from tokenizers import processors

    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{token} $A",
        pair=f"{token} $A {token}:1 $B:1",
        special_tokens=[(token, tokenizer.convert_tokens_to_ids(token))],
    )
    return tokenizer


def _number(pieces):
    return {piece: number for number, piece in enumerate(pieces)}


def _score(special, words):
    """Give each piece the logarithm of its frequency; letters are rarer than any word."""
    pieces = dict.fromkeys(special, 0.0) | {"▁": -20.0} | dict.fromkeys(LETTERS, -20.0)
    total = sum(words.values())
    pieces |= {f"▁{word}": math.log(count / total) for word, count in words.items()}
    return list(pieces.items())
