"""What the `data:` section forbids by itself."""

import re

import pytest


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("data.labels=[a,a]", "data.labels must not repeat a name, got ['a', 'a']"),
        ("data.labels=[a]", "data.labels must name at least 2 classes, got ['a']"),
        ("data.train.shards=4", "data.train.shards must be set together with shard, such as sha"),
        ("data.train.samples=0", "data.train.samples must be >= 1, got 0"),
        ("data.train.fraction=0.5", "data.train.fraction is for validation and test; use train.sa"),
        ("data.test.fraction=1", "data.test.fraction must be above 0 and below 1, got 1.0"),
        (
            "data.validation={fraction: 0.1, samples: 4}",
            "data.validation.samples needs split or file; fraction takes the rows from train",
        ),
        ("data.train_rows=1", "data.train_rows must be >= 2, got 1"),
        ("data.seed=-1", "data.seed must be at least 0 and below 2**32, got -1"),
        ("data.max_length=4", "data.max_length must be >= 8 tokens, got 4"),
    ],
)
def test_a_wrong_value_gets_one_line(write, fault_lines, override, line):
    (only,) = fault_lines(write(), override)
    assert only.startswith(f"command line: {line}")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        (
            "data.class_weights=heavy",
            "found 'heavy' (text), expected balanced or a list of numbers or null",
        ),
        ("data.class_weights=[1,a]", "found [1, 'a'] (a list), expected balanced or a list of nu"),
        ("data.class_weights=[1,.nan]", "found nan, expected a finite number"),
        ("data.class_weights=[1,2,3]", "found 3 numbers for 2 labels"),
        ("data.class_weights=[0,0]", "must be at least 0, and some above 0, got [0.0, 0.0]"),
        ("data.class_weights=[1,-1]", "must be at least 0, and some above 0, got [1.0, -1.0]"),
        ("data.labels=null data.class_weights=[1,1]", "needs data.labels, since the weights are"),
        ("data.prompt='{q}'", "needs data.completion, such as '{answer}'"),
        (
            "data.prompt='{q'",
            "expected '}' before end of string; write {{ and }} for literal brace",
        ),
        ("data.system='{q'", "expected '}' before end of string"),
        ("data.prompt='{q!r}'", "found '{q!r}', expected only a column name between braces"),
        ("data.system=Hi", "is for chats; set data.messages, or data.chat_template=true"),
        ("data.chat_template=true", "needs data.messages, or data.prompt and data.completion"),
        ("data.threshold=1", "must be above 0 and below 1, got 1"),
    ],
)
def test_a_wrong_value_is_named_among_other_faults(fault_lines, override, words):
    (line,) = [
        line
        for line in fault_lines("quickstart", *re.split(r" (?=data\.)", override))
        if words in line
    ]
    assert line.startswith("command line: data.")
