"""Built-in chat templates: the formats of the models that they are named after."""

import random

import pytest

from lora_tune.config.data import CHAT_TEMPLATE_NAMES, DataConfig
from lora_tune.data.chat_templates import CHAT_TEMPLATES
from lora_tune.data.chats import render_chat_prompt, set_chat_template, tokenize_chats
from lora_tune.errors import RecipeError, RowError
from tests.chat_templates import CHATML
from tests.tiny import make_tokenizer

TALK = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "Hello "},
    {"role": "assistant", "content": "Hi there"},
    {"role": "user", "content": "Who are you"},
]
# What the tokenizers of the models render for TALK, with the generation prompt.
EXPECTED = {
    "chatml": "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHello <|im_end|>\n"
    "<|im_start|>assistant\nHi there<|im_end|>\n<|im_start|>user\nWho are you<|im_end|>\n"
    "<|im_start|>assistant\n",
    "gemma": "<s><start_of_turn>user\nBe kind.\n\nHello<end_of_turn>\n<start_of_turn>model\n"
    "Hi there<end_of_turn>\n<start_of_turn>user\nWho are you<end_of_turn>\n<start_of_turn>model\n",
    "llama3": "<s><|start_header_id|>system<|end_header_id|>\n\nBe kind.<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\nHello<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\nHi there<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\nWho are you<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\n",
    "mistral": "<s>[INST] Be kind.\n\nHello [/INST] Hi there</s>[INST] Who are you[/INST]",
    "phi3": "<|system|>\nBe kind.<|end|>\n<|user|>\nHello <|end|>\n<|assistant|>\nHi there<|end|>\n"
    "<|user|>\nWho are you<|end|>\n<|assistant|>\n",
    "zephyr": "<|system|>\nBe kind.</s>\n<|user|>\nHello </s>\n<|assistant|>\nHi there</s>\n"
    "<|user|>\nWho are you</s>\n<|assistant|>\n",
}
EXPECTED["qwen"] = EXPECTED["chatml"]
# What precedes and follows a reply in the tokens that are learned.
AROUND = {
    "chatml": ("", "<|im_end|>\n"),
    "gemma": ("", "<end_of_turn>\n"),
    "llama3": ("", "<|eot_id|>"),
    "mistral": (" ", "{eos}"),
    "phi3": ("", "<|end|>\n"),
    "qwen": ("", "<|im_end|>\n"),
    "zephyr": ("", "{eos}\n"),
}
TRIMMED = ("gemma", "llama3", "mistral")


def tokenizer_with(template, family="plain"):
    tokenizer = make_tokenizer(family)
    data = DataConfig(messages="messages", chat_template=template)
    set_chat_template(tokenizer, data, checkpoint="tiny")
    return tokenizer


def test_the_recipe_lists_the_built_in_templates():
    assert tuple(CHAT_TEMPLATES) == CHAT_TEMPLATE_NAMES


@pytest.mark.parametrize("name", CHAT_TEMPLATES)
def test_a_template_has_the_format_of_its_models(name):
    tokenizer = tokenizer_with(name)
    assert render_chat_prompt(TALK, tokenizer) == EXPECTED[name]
    short = render_chat_prompt(TALK[1:2], tokenizer)
    if name == "qwen":
        assert short.startswith("<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You ")
    else:
        assert "system" not in short


def random_text(draw):
    pieces = [
        "word",
        "é",
        "日本",
        "🙂",
        "'s",
        '"',
        "{x}",
        "\n",
        "\n\n",
        "  ",
        "\t",
        "7",
        "<b>",
        "[/",
    ]
    text = "".join(draw.choice([*pieces, " "]) for _ in range(draw.randint(1, 12)))
    return text if text.strip() else "a" + text


def random_talk(draw):
    start = [{"role": "system", "content": random_text(draw)}] * draw.randint(0, 1)
    return start + [
        {"role": role, "content": random_text(draw)}
        for _ in range(draw.randint(1, 4))
        for role in ("user", "assistant")
    ]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("family", ["plain", "llama", "qwen2", "llama-2"])
@pytest.mark.parametrize("name", CHAT_TEMPLATES)
def test_the_learned_tokens_are_the_replies_and_their_ends(name, family, seed):
    draw = random.Random(f"{name} {family} {seed}")
    tokenizer = tokenizer_with(name, family)
    eos = tokenizer.eos_token
    before, after = (text.format(eos=eos) for text in AROUND[name])
    chats = [random_talk(draw) for _ in range(8)]
    for talk, (ids, is_learned) in zip(chats, tokenize_chats(chats, tokenizer), strict=True):
        replies = [turn["content"] for turn in talk if turn["role"] == "assistant"]
        if name in TRIMMED:
            replies = [reply.strip() for reply in replies]
        expected = "".join(before + reply + after for reply in replies)
        if eos not in after:
            expected += eos
        learned = tokenizer.decode(
            [id_ for id_, is_own in zip(ids, is_learned, strict=True) if is_own]
        )
        if family == "llama-2":  # its decoder inserts and removes spaces
            learned, expected = ("".join(text.split()) for text in (learned, expected))
        assert learned == expected
        assert ids[-1] == tokenizer.eos_token_id or eos in after
        assert is_learned[-1]


@pytest.mark.parametrize(
    ("name", "talk", "words"),
    [
        ("mistral", [*TALK[:2], *TALK[1:3]], "user and assistant messages in turn, found user"),
        ("gemma", [*TALK[1:3], *TALK[:1], *TALK[1:3]], "assistant messages in turn, found system"),
        ("phi3", [*TALK[1:2], {"role": "tool", "content": "7"}, TALK[2]], "assistant, found tool"),
        ("qwen", [*TALK[1:2], {"role": "tool", "content": "7"}, TALK[2]], "assistant, found tool"),
    ],
)
def test_a_conversation_that_a_format_does_not_have_is_reported(name, talk, words):
    with pytest.raises(RowError, match=words):
        tokenize_chats([talk], tokenizer_with(name))


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("Hi {{ name }}", "data.chat_template: contains no message; expected a Jinja template "),
        ("{{ bos_token }}\n\n{% if %}", "data.chat_template: line 3 is not valid Jinja: Expected"),
        ("{{ messages }}\n{% for m in", "data.chat_template: line 2 is not valid Jinja: "),
        ("{{ messages | shout }}", "data.chat_template: line 1 is not valid Jinja: No filter na"),
    ],
)
def test_a_template_that_cannot_format_a_chat_is_reported(template, message):
    with pytest.raises(RecipeError) as caught:
        tokenizer_with(template)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "template",
    [
        CHATML,
        "{% set messages = messages[1:] %}{{ messages }}",
        "{% for m in messages %}{% generation %}{{ m.content }}{%- endgeneration -%}"
        "{% if m.role == 'x' %}{% break %}{% endif %}{% endfor %}{{ strftime_now('%d') }}"
        "{{ messages | tojson }}",
    ],
)
def test_jinja_as_transformers_takes_it_is_valid(template):
    assert tokenizer_with(template).chat_template == template


@pytest.mark.parametrize(
    ("name", "advice"),
    [("chatlm", "; did you mean chatml?"), ("vicuna", ""), ("", ""), ("template.jinja", "")],
)
def test_a_name_that_no_template_has_is_reported(name, advice):
    problems = list(DataConfig(messages="messages", chat_template=name).validate())
    message = (
        f"found {name!r}, expected a built-in chat template (chatml, gemma, llama3, mistral, phi3, "
        f"qwen, zephyr) or a Jinja template{advice}"
    )
    assert problems == [("chat_template", message)]


@pytest.mark.parametrize("template", ["chatml", "{{ messages }}", "{%- for m in messages", True])
def test_names_and_jinja_are_taken(template):
    assert not list(DataConfig(messages="messages", chat_template=template).validate())
