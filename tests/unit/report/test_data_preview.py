"""Training rows as they are shown: all their tokens, and which of these are trained on."""

import re

import pytest

from lora_tune.config.data import DataConfig
from lora_tune.data.batching import IGNORE_INDEX
from lora_tune.data.splits import load_data
from lora_tune.report import data_preview
from lora_tune.report.data_preview import Part, escape, format_parts, preview_rows
from lora_tune.report.tables import data_table
from lora_tune.tasks import make_task
from tests.chat_templates import CHATML
from tests.tiny import make_tokenizer
from tests.unit.rows import VALIDATION, write_splits

LINE = re.compile(r"^  (\S*) *\| (.*)$")
ROWS = 8
LONG = 5  # rows from here on are truncated
MAX_LENGTH = 64

# The tokenizer, a row by its number, the recipe's columns.
CASES = {
    "sequence_classification": (
        "bert",
        lambda i, more: {"text": f"film {i}{more}", "label": ["bad", "good"][i % 2]},
        {},
    ),
    "sequence_classification of pairs": (
        "roberta",
        lambda i, more: {"text": f"film {i}", "body": f"dull{more}", "label": i % 2},
        {"text_pair": "body"},
    ),
    "multi_label_classification": (
        "distilbert",
        lambda i, more: {"text": f"film {i}{more}", "label": [["a"], [], ["a", "b"]][i % 3]},
        {},
    ),
    "sequence_regression": (
        "roberta",
        lambda i, more: {"text": f"film {i}{more}", "label": i / 4},
        {},
    ),
    "token_classification": (
        "bert",
        lambda i, more: {
            "text": ["so", "annabelle", "lee", str(i), *more.split(), "rome"],
            "label": ["O", "B-PER", "I-PER", "O", *["O"] * len(more.split()), "B-LOC"],
        },
        {},
    ),
    "question_answering": (
        "roberta",
        lambda i, more: {"text": f"what {i}?", "context": f"it is a{more} plot", "label": "a"},
        {"text_pair": "context"},
    ),
    "causal_lm of prompts": (
        "gpt2",
        lambda i, more: {"q": f"Is {i}\teven?{more}", "a": f"Yes,\n{i} \\ is |even. "},
        {"prompt": "Q: {q}\nA: ", "completion": "{a}"},
    ),
    "causal_lm of chats": (
        "qwen2",
        lambda i, more: {
            "messages": [
                {"role": "user", "content": "Hm?"},
                {"role": "assistant", "content": f"{i}"},
                {"role": "user", "content": "Go on."},
                {"role": "assistant", "content": f"So{more}"},
            ]
        },
        {"messages": "messages", "chat_template": CHATML},
    ),
    "causal_lm of SentencePiece": (  # whose decoder drops the first space
        "llama-2",
        lambda i, more: {"q": f"is {i} even?{more}", "a": f"the film {i}"},
        {"prompt": "Q: {q}\nA:", "completion": "{a}"},
    ),
    "seq2seq_lm": (
        "t5",
        lambda i, more: {"q": f"Is {i} even?{more}", "a": f"the film {i}"},
        {"prompt": "answer: {q}", "completion": "{a}"},
    ),
}
SHORT_CHATS = {"causal_lm of chats": 128}


def load(case, folder, **config):
    """Load the data of a case; returns them, the task and the tokenizer."""
    family, make_row, columns = CASES[case]
    more = " or so" * 40
    rows = [make_row(i, more if i >= LONG else "") for i in range(ROWS)]
    write_splits(folder, train=rows, validation=rows[:2], test=rows[2:4])
    task, tokenizer = make_task(case.partition(" ")[0]), make_tokenizer(family)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.chat_template = columns.get("chat_template")
    given = {"max_length": SHORT_CHATS.get(case, MAX_LENGTH), "source": str(folder)}
    config = DataConfig(**given | columns | config, validation=VALIDATION)
    return load_data(config, task, tokenizer), task, tokenizer


def preview(data, task, tokenizer, count=ROWS):
    """Preview rows; returns the lines of each row, its first line included."""
    lines = preview_rows(data, task=task, tokenizer=tokenizer, count=count)
    starts = [at for at, line in enumerate(lines) if re.match(r"(row|block) \d+:", line)]
    return [lines[a:b] for a, b in zip(starts, [*starts[1:], len(lines)], strict=True)]


def shown(lines, *names):
    """The text of lines with these names, escapes undone."""
    found = (match.groups() for match in map(LINE.match, lines) if match)
    return unescape("".join(text for name, text in found if name in names))


def unescape(text):
    return text.encode("latin-1", "backslashreplace").decode("unicode_escape")


def decode(tokenizer, ids):
    return tokenizer.decode(ids, clean_up_tokenization_spaces=False)


@pytest.fixture
def whole(monkeypatch):
    """Show long parts as a whole."""
    monkeypatch.setattr(data_preview, "EDGE", 10_000)


@pytest.fixture(params=CASES)
def case(request, tmp_path, whole):
    return load(request.param, tmp_path)


def test_all_tokens_of_a_row_are_shown_and_no_others(case):
    data, task, tokenizer = case
    rows = preview(*case)
    assert len(rows) == ROWS
    for lines, row in zip(rows, data.train.encoded, strict=True):
        if task.name == "seq2seq_lm":
            assert shown(lines, "input") == decode(tokenizer, row["input_ids"])
        else:
            assert shown(lines, "input", "learned", "answer") == decode(tokenizer, row["input_ids"])
        assert f": {len(row['input_ids'])} tokens" in lines[0]


def test_learned_tokens_are_those_with_labels(case):
    data, task, tokenizer = case
    for lines, row in zip(preview(*case), data.train.encoded, strict=True):
        if task.generation is None:
            assert not shown(lines, "learned")
        else:
            learned = [number for number in row["labels"] if number != IGNORE_INDEX]
            text = decode(tokenizer, learned).lstrip(" ")  # the decoder may drop a first space
            assert shown(lines, "learned").lstrip(" ") == text
            assert f", {len(learned)} learned" in lines[0]


def test_truncation_is_marked_where_tokens_are_missing(case):
    data, _, _ = case
    is_marked = ["truncated from" in lines[0] for lines in preview(*case)]
    counts = data.train.token_counts
    assert is_marked == [number > data.max_length for number in counts]
    assert is_marked == [i >= LONG for i in range(ROWS)]
    assert f"truncated from {counts[LONG]}" in preview(*case)[LONG][0]


def test_rows_are_the_first_of_the_split(case):
    lines = preview(*case, count=2)
    assert [row[0].split(":")[0] for row in lines] == ["row 0", "row 1"]
    assert len(preview(*case, count=99)) == ROWS


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("sequence_classification", ["label bad", "label good", "label bad"]),
        ("multi_label_classification", ["labels a", "labels none", "labels a; b"]),
        ("sequence_regression", ["label 0.0", "label 0.25", "label 0.5"]),
    ],
)
def test_the_label_of_a_row_is_beside_it(name, labels, tmp_path):
    rows = preview(*load(name, tmp_path), count=3)
    assert [lines[0].split(", ", 1)[1] for lines in rows] == labels


def test_tagged_words_are_below_the_row(tmp_path, whole):
    data, task, tokenizer = load("token_classification", tmp_path)
    rows = preview(data, task, tokenizer)
    own = data.train.encoded[0]
    assert own["labels"].count(IGNORE_INDEX) > 2  # some word has several tokens
    tags = [LINE.match(line).group(1) for line in rows[0][2:]]
    assert tags == ["B-PER", "I-PER", "B-LOC"]
    words = [LINE.match(line).group(2).replace(" ##", "").strip() for line in rows[0][2:]]
    assert words == ["annabelle", "lee", "rome"]
    assert [LINE.match(line).group(1) for line in rows[LONG][2:]] == ["B-PER", "I-PER"]


def test_the_tokens_of_an_answer_are_marked(tmp_path, whole):
    data, task, tokenizer = load("question_answering", tmp_path)
    for lines in preview(data, task, tokenizer):
        assert shown(lines, "answer") == "a"
        names = [LINE.match(line).group(1) for line in lines[1:]]
        assert names == ["input", "answer", "input"]


def test_an_answer_that_is_missing_or_truncated_is_said(tmp_path, monkeypatch):
    answers = [
        {"text": [], "answer_start": []},
        {"text": ["plot"], "answer_start": [248]},
    ]
    context = f"it is a{' or so' * 40} plot"
    rows = [{"text": "what?", "context": context, "label": answers[i % 2]} for i in range(4)]
    monkeypatch.setitem(
        CASES, "question_answering", ("roberta", lambda i, _: rows[i % 4], {"text_pair": "context"})
    )
    none, cut, *_ = preview(*load("question_answering", tmp_path))
    assert none[0].endswith(", no answer")
    assert shown(none, "answer") == "<s>"
    assert cut[0].endswith("its answer is truncated, so the loss does not count the row")
    assert not shown(cut, "answer")


def test_plain_texts_are_shown_as_blocks(tmp_path, monkeypatch, whole):
    monkeypatch.setitem(CASES, "causal_lm", ("gpt2", lambda i, more: {"text": f"no {i}{more}"}, {}))
    data, task, tokenizer = load("causal_lm", tmp_path)
    lines = preview_rows(data, task=task, tokenizer=tokenizer, count=2)
    assert lines[0].startswith(f"First 2 of {len(data.train.encoded)} blocks as the model")
    assert lines[1] == "The 8 training texts are concatenated and cut into blocks of 64 tokens."
    rows = preview(data, task, tokenizer)
    for number, (own, row) in enumerate(zip(rows, data.train.encoded, strict=False)):
        assert own[0] == f"block {number}: {len(row['input_ids'])} tokens"
        assert shown(own, "input", "learned") == decode(tokenizer, row["input_ids"])
        assert shown(own, "learned") == decode(tokenizer, row["labels"][1:])
    table = data_table(data, "texts", task=task, tokenizer=tokenizer)
    truncated = {line.split()[0]: line.split()[-1] for line in table.splitlines()[3:6]}
    assert truncated == {"train": "-", "validation": "0.0%", "test": "0.0%"}


def test_a_long_part_keeps_both_ends_and_counts_the_rest(tmp_path):
    data, task, tokenizer = load("causal_lm of prompts", tmp_path, max_length=1024)
    lines = preview(data, task, tokenizer)[LONG]
    names = [match and match.group(1) for match in map(LINE.match, lines[1:])]
    assert names == ["input", None, "input", "learned"]
    row = data.train.encoded[LONG]
    text = decode(tokenizer, [n for n in row["input_ids"] if n != tokenizer.bos_token_id])
    start, end = (unescape(LINE.match(lines[at]).group(2)) for at in (1, 3))
    start = start.removeprefix("<|endoftext|>")
    prompt = text[: text.index("Yes,")]
    assert prompt.startswith(start)
    assert prompt.endswith(end)
    assert max(map(len, lines)) < 2 * data_preview.EDGE
    # One token for each character: the rest of the prompt.
    hidden = int(re.search(r"\((\d+) tokens not shown\)", lines[2]).group(1))
    assert hidden == len(prompt) - len(start) - len(end)


def test_many_parts_are_cut_in_the_middle():
    tokenizer = make_tokenizer("gpt2")
    ids = tokenizer("abcdefghijklmnopqrst", add_special_tokens=False)["input_ids"]
    parts = [Part(("input", "learned")[at % 2], ids, at, at + 1) for at in range(20)]
    lines = format_parts(parts, tokenizer)
    assert lines[4] == "  (12 parts of 12 tokens not shown)"
    assert [line[-1] for line in lines[:4] + lines[5:]] == list("abcdqrst")


def test_control_characters_and_marks_are_escaped():
    assert escape("a\nb\tc\\d") == r"a\nb\tc\\d"
    assert escape("\x1b[31m\u202e\x85\ud800") == r"\x1b[31m\u202e\x85\ud800"
    assert escape("é 中 |") == "é 中 |"
    assert escape("A: ") == r"A:\x20"


@pytest.mark.parametrize("name", ["sequence_classification", "causal_lm of prompts", "causal_lm"])
def test_the_tokens_of_a_secret_are_not_shown(name, tmp_path, monkeypatch):
    secret = "Sk-AbCdEf-123456"
    monkeypatch.setenv("MY_API_KEY", secret)
    family, _, columns = CASES.get(name, ("gpt2", None, {}))

    def make_row(i, more):
        text = f"row {i} {secret if i == 1 else 'plain'}"
        return {"text": text, "label": f"{i % 2}", "q": text, "a": "so"}

    monkeypatch.setitem(CASES, name, (family, make_row, columns))
    data, task, tokenizer = load(name, tmp_path)
    rows = preview(data, task, tokenizer, count=2)
    assert "not shown: the text contains a secret" in rows[1][1]
    for lines in rows if name == "causal_lm" else rows[1:]:
        assert len(lines) == 2
    if name != "causal_lm":
        assert "plain" in "".join(rows[0]).replace(" ##", "")
