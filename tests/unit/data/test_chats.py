"""Conversations as chat templates of every kind render them; the labels are the assistant's."""

import csv
import json

import pytest

from lora_tune.config.data import DataConfig
from lora_tune.data.batching import IGNORE_INDEX
from lora_tune.data.chats import read_messages, render_chat_prompt, tokenize_chats
from lora_tune.data.splits import load_data
from lora_tune.errors import DataError, RowError
from lora_tune.tasks import make_task
from tests.chat_templates import BRACKETS, CHATML, HEADERS, OPEN_THOUGHT, THOUGHTS
from tests.tiny import make_tokenizer
from tests.unit.rows import VALIDATION, write_splits

LM = make_task("causal_lm")


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
    ("template", "learned"),
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
def test_labels_are_the_assistants_turns_and_their_end_tokens(template, learned):
    tokenizer = tokenizer_with(template)
    ((ids, own),) = tokenize_chats([TALK], tokenizer)
    assert tokenizer.decode([n for n, is_own in zip(ids, own, strict=True) if is_own]) == "".join(
        learned
    )
    # What precedes a reply is what the model is prompted with, token by token.
    for number, reply in ((1, learned[0]), (3, learned[1])):
        prompt = render_chat_prompt(TALK[:number], tokenizer)
        before = tokenizer(prompt, add_special_tokens=False)["input_ids"]
        after = tokenizer(reply, add_special_tokens=False)["input_ids"]
        assert ids[: len(before + after)] == before + after
        assert own[len(before) : len(before + after)] == [True] * len(after)
        assert not own[len(before) - 1]


def test_no_token_spans_the_end_of_the_prompt_and_the_reply():
    """As one would where the generation prompt ends with a space and a word's token begins so."""
    template = (
        "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    tokenizer = tokenizer_with(template, "llama-2")
    talk = say("Was it good?", "The film was.", "And you?", "The film is.")
    whole = tokenizer(f"user: {talk[0]['content']}\nassistant: The film", add_special_tokens=False)
    assert "▁The" in whole.tokens(), "otherwise no token could span both"
    ((ids, own),) = tokenize_chats([talk], tokenizer)
    rendered = render_chat_prompt(talk[:1], tokenizer)
    prompt = tokenizer(rendered, add_special_tokens=False)["input_ids"]
    assert ids[: len(prompt)] == prompt
    assert not any(own[: len(prompt)])
    learned = tokenizer.decode([n for n, is_own in zip(ids, own, strict=True) if is_own])
    assert learned.split() == ["The", "film", "was.", "The", "film", "is.", "</s>"]


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_start_token_of_the_template_is_not_added_again(family):
    tokenizer = tokenizer_with(HEADERS, family)
    ((ids, _),) = tokenize_chats([TALK], tokenizer)
    assert ids.index(tokenizer.bos_token_id) == 0
    assert tokenizer.bos_token_id not in ids[1:-1]


def test_the_date_in_a_template_is_fixed():
    assert "<26 Jul 2024>" in render_chat_prompt(TALK, tokenizer_with(HEADERS))


def test_a_final_reply_is_left_out_of_the_prompt():
    tokenizer = tokenizer_with(CHATML)
    assert render_chat_prompt(TALK, tokenizer) == render_chat_prompt(TALK[:3], tokenizer)


@pytest.mark.parametrize(
    ("template", "messages", "words"),
    [
        (BRACKETS, say("Hi", "Yes", system="Be kind."), "rejects it: Conversation roles mus"),
        ("{% if %}", TALK, "rejects it: Expected an expression"),
        ("{{ 'a' + none }}", TALK, "rejects it: can only concatenate str"),
        (OPEN_THOUGHT, TALK, "formats message 1 (messages count from 0) differently after its"),
        ("{% for m in messages %}{{ m.role }} {% endfor %}", TALK, "formats message 1"),
        ("{{ messages | length }}{{ messages[-1].content }}", TALK, "formats message 1"),
    ],
)
def test_a_template_that_does_not_fit_is_reported(template, messages, words):
    with pytest.raises(RowError) as caught:
        tokenize_chats([say("Hi", "Yes"), messages][1:], tokenizer_with(template))
    assert words in str(caught.value)
    assert caught.value.row == 0


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        (None, "found None, expected a list of messages"),
        ([], "found [], expected a list of messages"),
        (["Hi"], "message 0 (messages count from 0): found 'Hi', expected a mapping"),
        ([{"content": "Hi"}], "message 0 (messages count from 0): found no role"),
        ([{"role": "user", "content": ""}], "(messages count from 0), of the user: found nothing"),
        ([{"role": "user", "content": 7}], "of the user: found 7, expected text"),
        ([{"from": "gpt", "value": "Hi"}], "is from the assistant; expected the user"),
        ([{"role": "system", "content": ""}], "first message is from the assistant"),
        ("Hi", "found 'Hi', expected a list of messages"),
        ("[unfinished", "found '[unfinished', expected a list of messages"),
        ('{"role": "user"}', "expected a list of messages"),
        ('["Hi"]', "message 0 (messages count from 0): found 'Hi', expected a mapping"),
        ('[{"role": "user", "content": 7}]', "of the user: found 7, expected text"),
        ([{"role": "asistant", "content": "Hi"}], "user, assistant, tool; did you mean assistant?"),
        (
            [{"role": "function", "content": "Hi"}],
            "(messages count from 0): found the role 'functi",
        ),
        (
            [*say("Hi"), {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}],
            "message 1 (messages count from 0), of the assistant: found tool_calls, which is not ",
        ),
        (
            [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url"}]}],
            "of the user, part 1 (parts count from 0): found the type 'image_url', expected {type",
        ),
        ([{"role": "user", "content": ["a"]}], "part 0 (parts count from 0): found 'a', expected"),
        ([{"role": "user", "content": [{"type": "text"}]}], "part 0 (parts count from 0): found {"),
        ([{"role": "user", "content": []}], "of the user: found nothing, expected text"),
    ],
)
def test_a_cell_that_is_not_a_conversation_is_reported(cell, words):
    with pytest.raises(DataError) as caught:
        read_messages(cell)
    assert words in str(caught.value)


def test_sharegpt_names_are_read_as_well():
    cell = [
        {"from": "system", "value": "", "role": None},
        {"from": "human", "value": "Hi"},
        {"from": "gpt", "value": "Hello"},
    ]
    assert read_messages(cell) == say("Hi", "Hello")


@pytest.mark.parametrize("write_text", [json.dumps, str])
@pytest.mark.parametrize("cell", [TALK, say("It's", 'a "b"\n', system="é")])
def test_a_conversation_may_be_text(cell, write_text):
    assert read_messages(write_text(cell)) == read_messages(cell) == cell


def test_the_texts_of_parts_are_joined():
    part = {"type": "text", "text": "What is", "image_url": None}
    cell = [{"role": "user", "content": [part, {"type": "text", "text": " this?"}]}]
    assert read_messages(cell) == say("What is this?")


def test_roles_of_openai():
    cell = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": "1 + 1", "tool_calls": None, "name": "Ann"},
        {"role": "tool", "content": "2"},
        {"role": "assistant", "content": "Two", "tool_calls": [], "refusal": None},
    ]
    assert [(turn["role"], turn["content"]) for turn in read_messages(cell)] == [
        ("system", "Be brief."),
        ("user", "1 + 1"),
        ("tool", "2"),
        ("assistant", "Two"),
    ]


def write(folder, rows):
    write_splits(folder, train=rows, validation=rows, test=rows)


def load(folder, tokenizer, **data):
    config = DataConfig(source=str(folder), validation=VALIDATION, **data)
    return load_data(config, LM, tokenizer).train


def test_prompt_and_completion_become_turns(tmp_path):
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


def test_a_conversation_is_cut_after_the_assistants_last_turn(tmp_path):
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
    # A row's own system text has precedence.
    assert second.startswith("<|im_start|>system\nOwn.<|im_end|>")
    assert split.encoded["target_bytes"][1] == len("Yes<|im_end|>\n")


@pytest.mark.parametrize("write_text", [json.dumps, str])
def test_a_csv_holds_conversations_and_other_columns(tmp_path, write_text):
    """Columns that agent traces have are ordinary ones."""
    names = ["id", "source", "model", "system_prompt", "messages"]
    row = dict(zip(names, ("7", "a", "b", "c", write_text(TALK)), strict=True))
    for split in ("train", "validation", "test"):
        with open(tmp_path / f"{split}.csv", "w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, names)
            table.writeheader()
            table.writerows([row, row])
    split = load(tmp_path, tokenizer_with(CHATML), messages="messages")
    assert split.rows.inputs == [{"messages": TALK}] * 2


def test_a_long_chat_keeps_its_start_token_the_question_and_half_of_max_length(tmp_path):
    write(tmp_path, [{"talk": say("x" * 200 + "END", "y" * 200)}])
    tokenizer = tokenizer_with(HEADERS)
    split = load(tmp_path, tokenizer, messages="talk", max_length=64)
    (row,) = split.encoded
    text = tokenizer.decode(row["input_ids"])
    assert len(row["input_ids"]) == 64
    assert text.startswith("<s>")
    assert "END<|eot|><|assistant|>\n\ny" in text
    assert sum(label != IGNORE_INDEX for label in row["labels"]) >= 32
    assert split.token_counts[0] > 400


@pytest.mark.parametrize(
    ("talk", "words"),
    [
        (
            say("Hi"),
            "no message is from the assistant",
        ),
        (
            TALK[:1] + TALK[2:],
            "the chat template rejects it",
        ),
        (
            [],
            "found '[]', expected a list of messages",
        ),
    ],
)
def test_a_wrong_row_is_named(tmp_path, talk, words):
    write(tmp_path, [{"talk": TALK}, {"talk": talk}])
    with pytest.raises(DataError) as caught:
        load(tmp_path, tokenizer_with(BRACKETS), messages="talk")
    assert str(caught.value).startswith("data.train: row 1 (rows count from 0)")
    assert words in str(caught.value)
