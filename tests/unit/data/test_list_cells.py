"""Lists in cells, as other programs write them to text."""

import json

import numpy as np
import pandas as pd
import pytest

from lora_tune.data.list_cells import parse_list

TURNS = [{"role": "user", "content": 'it\'s "so"\n[x]'}, {"role": "assistant", "content": "é\t1"}]
WORDS = ["it's", 'a "b"', "c, d", "[e]", "f\\n", "\n", "", "é", "None", "1"]


@pytest.mark.parametrize("items", [[], ["a"], WORDS, TURNS, [["a", 1.5], [True, None]]])
def test_json_and_python_give_the_items_back(items):
    assert parse_list(json.dumps(items)) == items
    assert parse_list(json.dumps(items, ensure_ascii=False, indent=1)) == items
    assert parse_list(str(items)) == items
    assert parse_list(f" {items}\n") == items


@pytest.mark.parametrize("items", [[], ["a"], ["a", "b"], WORDS, TURNS])
def test_tuples_sets_and_arrays_are_lists(items, tmp_path):
    array = np.empty(len(items), dtype=object)
    array[:] = items
    columns = {"list": [items], "tuple": [tuple(items)], "array": [array]}
    if items and isinstance(items[0], str):
        columns["set"] = [set(items)]
    pd.DataFrame(columns).to_csv(tmp_path / "rows.csv", index=False)
    row = pd.read_csv(tmp_path / "rows.csv").iloc[0]
    assert parse_list(row["list"]) == parse_list(row["tuple"]) == items
    assert parse_list(row["array"]) == items
    if "set" in columns:
        assert parse_list(row["set"]) == list(columns["set"][0])
    assert parse_list("set()") == []


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ("[1, 0, 1.0, -2, 1e-5]", ["1", "0", "1.0", "-2", "1e-5"]),
        ("['a', 1.0, -2]", ["a", "1.0", "-2"]),
        ("[1 0 1]", ["1", "0", "1"]),
        ("[ 1. -0.5\n nan]", ["1.", "-0.5", None]),
        ("[123456789012345678901234567890]", ["123456789012345678901234567890"]),
        ("[1e999, NaN, Infinity]", ["1e999", None, None]),
        ("[true, false, null]", ["true", "false", None]),
        ("[True, False, None]", ["True", "False", None]),
        ("[ True False]", ["True", "False"]),
        ("(1,)", ["1"]),
        ("()", []),
        ("{3}", ["3"]),
        ("[{'a': 1, 'b': (True, -1.5)}]", [{"a": 1, "b": (True, -1.5)}]),
        ('[[1, 2], {"n": 1.0}]', [[1, 2], {"n": 1.0}]),
        (r"['\d']", ["\\d"]),
    ],
)
def test_numbers_and_constants_of_the_list_are_as_written(text, items):
    assert parse_list(text) == items


@pytest.mark.parametrize(
    "text",
    [
        *("", "[", "plain", "[unfinished", "[sic] a note", "[sic]", "[a, b]", "(see below)"),
        *("('a')", "(1 2)", "(2020)", "{}", "{'a': 1}", '{"a": 1}', "{1 2}", "[01]", "[1, 02]"),
        *("['a' 'b' ... 'z']", "['a', ...]", "[1,,2]", "[,]", "['a''b']", "[1 - 2]", "[1-2]"),
        *("['a', 'b' 'c']", "['a'] and ['b']", "[1)]", "[(1])]", "[b'a']", "['a", "['a\\']"),
        *("[1j]", "[f'a']", "[array(['a'], dtype=object)]", "[__import__('os')]", "[1_0]", "[\0]"),
        *('"["', '["a"] ["b"]', "[[' a']", "[1] [2]", "[{'a': 1 2}]", "[{'a'}: 1]"),
        *("[" * 100_000 + "]" * 100_000, "[(" * 50_000 + "1,)]" * 50_000, "('" + "\\" * 99 + "')"),
        *("[" + "9" * 10_000 + "]", "[[" + "9" * 10_000 + ", 'a']]"),
    ],
    ids=lambda text: text[:20],
)
def test_what_is_not_a_list_gives_none(text):
    assert parse_list(text) is None
