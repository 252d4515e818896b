"""Conversations, written by chat templates of every kind; the assistant's words are learnt."""

import json
from fnmatch import fnmatch

import pytest

from lora_tune.base import SMALL_FILES, find_base
from lora_tune.chats import encode_chats, read_messages, render_question
from lora_tune.data import load_data
from lora_tune.errors import DataError, ModelError, RowError
from lora_tune.model import load_tokenizer
from lora_tune.prompts import take_prompt, write_prompt
from lora_tune.recipe import DataConfig, ModelConfig, SplitConfig
from lora_tune.tasks import find_task
from lora_tune.tasks.task import IGNORED
from tests.chat_templates import BRACKETS, CHATML, HEADERS, OPEN_THOUGHT, THOUGHTS
from tests.tiny import make_base, make_tokenizer

LM = find_task("causal_lm")


def say(*contents, system=None):
    turns = [{"role": "system", "content": system}] if system else []
    roles = ["user", "assistant"] * len(contents)
    return turns + [
        {"role": role, "content": text} for role, text in zip(roles, contents, strict=False)
    ]


TALK = say("Hi", "Hello, you", "And now?", "Now hello, you")


def tokenizer_with(template, family="plain"):
    tokenizer = make_tokenizer(family)
    tokenizer.chat_template = template
    return tokenizer


@pytest.mark.parametrize(
    ("template", "learnt"),
    [
        (CHATML, ["Hello, you<|im_end|>\n", "Now hello, you<|im_end|>\n</s>"]),
        (HEADERS, ["Hello, you<|eot|>", "Now hello, you<|eot|></s>"]),
        (BRACKETS, [" Hello, you</s>", " Now hello, you</s>"]),
        (
            THOUGHTS,
            ["Hello, you<|im_end|>\n", "<think>\n\n</think>\n\nNow hello, you<|im_end|>\n</s>"],
        ),
    ],
)
def test_the_assistants_turns_and_their_ends_are_learnt(template, learnt):
    tokenizer = tokenizer_with(template)
    ((ids, own),) = encode_chats([TALK], tokenizer)
    assert tokenizer.decode([n for n, is_own in zip(ids, own, strict=True) if is_own]) == "".join(
        learnt
    )
    # What comes before an answer is what the model is asked with, token by token.
    for number, reply in ((1, learnt[0]), (3, learnt[1])):
        asked = render_question(TALK[:number], tokenizer)
        before = tokenizer(asked, add_special_tokens=False)["input_ids"]
        after = tokenizer(reply, add_special_tokens=False)["input_ids"]
        assert ids[: len(before + after)] == before + after
        assert own[len(before) : len(before + after)] == [True] * len(after)
        assert not own[len(before) - 1]


def test_no_token_reaches_from_the_question_into_the_answer():
    """As it would where a template asks with a space, and a word's token begins with one."""
    template = (
        "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    tokenizer = tokenizer_with(template, "llama-2")
    talk = say("Was it good?", "The film was.", "And you?", "The film is.")
    whole = tokenizer(f"user: {talk[0]['content']}\nassistant: The film", add_special_tokens=False)
    assert "▁The" in whole.tokens(), "else there is nothing to reach"
    ((ids, own),) = encode_chats([talk], tokenizer)
    asked = tokenizer(render_question(talk[:1], tokenizer), add_special_tokens=False)["input_ids"]
    assert ids[: len(asked)] == asked
    assert not any(own[: len(asked)])
    learnt = tokenizer.decode([n for n, is_own in zip(ids, own, strict=True) if is_own])
    assert learnt.split() == ["The", "film", "was.", "The", "film", "is.", "</s>"]


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_template_that_begins_a_text_is_not_begun_again(family):
    tokenizer = tokenizer_with(HEADERS, family)
    ((ids, _),) = encode_chats([TALK], tokenizer)
    assert ids.index(tokenizer.bos_token_id) == 0
    assert tokenizer.bos_token_id not in ids[1:-1]


def test_the_date_in_a_template_does_not_move():
    assert "<26 Jul 2024>" in render_question(TALK, tokenizer_with(HEADERS))


def test_an_answer_that_is_there_is_left_out_of_the_question():
    tokenizer = tokenizer_with(CHATML)
    assert render_question(TALK, tokenizer) == render_question(TALK[:3], tokenizer)


@pytest.mark.parametrize(
    ("template", "messages", "words"),
    [
        (BRACKETS, say("Hi", "Yes", system="Be kind."), "does not take it: Conversation roles mus"),
        ("{% if %}", TALK, "does not take it: Expected an expression"),
        ("{{ 'a' + none }}", TALK, "does not take it: can only concatenate str"),
        (OPEN_THOUGHT, TALK, "writes message 1 (messages count from 0) in another way when it ask"),
        ("{% for m in messages %}{{ m.role }} {% endfor %}", TALK, "writes message 1"),
        ("{{ messages | length }}{{ messages[-1].content }}", TALK, "writes message 1"),
    ],
)
def test_a_template_that_does_not_fit_is_told(template, messages, words):
    with pytest.raises(RowError) as caught:
        encode_chats([say("Hi", "Yes"), messages][1:], tokenizer_with(template))
    assert words in str(caught.value)
    assert caught.value.row == 0


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        (None, "found None, expected a list of messages"),
        ([], "found [], expected a list of messages"),
        (["Hi"], "message 0 (from 0): found 'Hi', expected a mapping"),
        ([{"content": "Hi"}], "message 0 (from 0): found no role"),
        ([{"role": "user", "content": ""}], "message 0 (from 0), the user's: found nothing"),
        ([{"role": "user", "content": 7}], "the user's: found 7, expected text"),
        ([{"from": "gpt", "value": "Hi"}], "begin with the assistant's; expected the user's"),
        ([{"role": "system", "content": ""}], "begin with the assistant's"),
    ],
)
def test_what_is_no_conversation_is_told(cell, words):
    with pytest.raises(DataError) as caught:
        read_messages(cell)
    assert words in str(caught.value)


def test_sharegpts_names_mean_the_same():
    cell = [
        {"from": "system", "value": "", "role": None},
        {"from": "human", "value": "Hi"},
        {"from": "gpt", "value": "Hello"},
    ]
    assert read_messages(cell) == say("Hi", "Hello")


def write(folder, rows):
    for name in ("train", "validation", "test"):
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(lines)


def load(folder, tokenizer, **data):
    config = DataConfig(source=str(folder), validation=SplitConfig(split="validation"), **data)
    return load_data(config, LM, tokenizer).train


def test_columns_become_turns(tmp_path):
    write(tmp_path, [{"task": "Add", "more": "1 + 1", "out": "2"}, {"task": "Go", "out": "Gone"}])
    tokenizer = tokenizer_with(CHATML)
    data = {"prompt": "{task}\n{more}", "completion": "{out}", "chat_template": True}
    split = load(tmp_path, tokenizer, system="Be brief.", **data)
    texts = [tokenizer.decode(ids) for ids in split.encoded["input_ids"]]
    start = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n"
    assert texts == [
        f"{start}Add\n1 + 1<|im_end|>\n<|im_start|>assistant\n2<|im_end|>\n</s>",
        f"{start}Go<|im_end|>\n<|im_start|>assistant\nGone<|im_end|>\n</s>",
    ]
    assert split.rows.label_texts == ["2", "Gone"]
    assert split.rows.texts[0] == "Be brief.\nAdd\n1 + 1\n2"


def test_a_column_of_messages_ends_with_the_assistants_last(tmp_path):
    talk = [*TALK, {"role": "user", "content": "Bye"}]
    write(
        tmp_path,
        [{"talk": talk, "who": "Ann"}, {"talk": say("Hi", "Yes", system="Own."), "who": ""}],
    )
    tokenizer = tokenizer_with(CHATML)
    split = load(tmp_path, tokenizer, messages="talk", system="You are {who}.")
    first, second = (tokenizer.decode(ids) for ids in split.encoded["input_ids"])
    assert first.startswith("<|im_start|>system\nYou are Ann.<|im_end|>\n<|im_start|>user\nHi")
    assert first.endswith("Now hello, you<|im_end|>\n</s>")
    assert second.startswith("<|im_start|>system\nOwn.<|im_end|>")  # a row's own comes first
    assert split.encoded["target_bytes"][1] == len("Yes<|im_end|>\n")


def test_a_long_chat_keeps_its_beginning_the_question_and_half_the_room(tmp_path):
    write(tmp_path, [{"talk": say("x" * 200 + "END", "y" * 200)}])
    tokenizer = tokenizer_with(HEADERS)
    split = load(tmp_path, tokenizer, messages="talk", max_length=64)
    (row,) = split.encoded
    text = tokenizer.decode(row["input_ids"])
    assert len(row["input_ids"]) == 64
    assert text.startswith("<s>")
    assert "END<|eot|><|assistant|>\n\ny" in text
    assert sum(label != IGNORED for label in row["labels"]) >= 32
    assert split.token_counts[0] > 400


@pytest.mark.parametrize(
    ("talk", "words"),
    [
        (say("Hi"), "data.train: row 1 (rows count from 0), none of its messages is the assistant"),
        (
            TALK[:1] + TALK[2:],
            "data.train: row 1 (rows count from 0): the chat template does not t",
        ),
        ([], "data.train: row 1 (rows count from 0), found [], expected a list of messages"),
    ],
)
def test_a_wrong_row_is_named(tmp_path, talk, words):
    write(tmp_path, [{"talk": TALK}, {"talk": talk}])
    with pytest.raises(DataError) as caught:
        load(tmp_path, tokenizer_with(BRACKETS), messages="talk")
    assert str(caught.value).startswith(words)


@pytest.mark.parametrize(
    ("data", "row", "asked"),
    [
        ({"messages": "talk"}, {"talk": "Hi"}, "user\nHi"),
        ({"messages": "talk"}, {"talk": TALK}, "user\nAnd now?"),
        ({"prompt": "Say {word}", "chat_template": True}, {"word": "Hi"}, "user\nSay Hi"),
        (
            {"prompt": "{a} {b}", "chat_template": True, "system": "Be {mood}."},
            {"a": "Hi", "b": None, "mood": "kind"},
            "system\nBe kind.<|im_end|>\n<|im_start|>user\nHi",
        ),
    ],
)
def test_a_users_row_is_asked_as_in_training(data, row, asked):
    config = DataConfig(completion="{out}" if "prompt" in data else None, **data)
    assert LM.asked_columns(config) == list(row)
    tokenizer = tokenizer_with(CHATML)
    written = write_prompt(take_prompt(row, config, tokenizer), tokenizer)
    assert written.endswith(f"<|im_start|>{asked}<|im_end|>\n<|im_start|>assistant\n")


def test_a_tokenizer_without_a_template_is_told_before_the_weights(tmp_path):
    model = ModelConfig(name=str(make_base(tmp_path / "base", "gpt2")))
    base = find_base(model)
    data = DataConfig(messages="talk", max_length=64)
    with pytest.raises(ModelError, match="has no chat template; give one"):
        load_tokenizer(base, model, data)
    given = load_tokenizer(base, model, DataConfig(messages="talk", chat_template=CHATML))
    assert given.chat_template == CHATML
    several = tokenizer_with({"default": CHATML, "tool_use": "no"}, "gpt2")
    several.save_pretrained(tmp_path / "base")
    assert load_tokenizer(base, model, data).chat_template == CHATML


def test_a_template_is_fetched_with_its_tokenizer(tmp_path):
    tokenizer_with(CHATML).save_pretrained(tmp_path)
    files = [path.name for path in tmp_path.iterdir()]
    assert "chat_template.jinja" in files
    assert all(any(fnmatch(name, pattern) for pattern in SMALL_FILES) for name in files)
