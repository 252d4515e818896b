"""Module name patterns match as `re` and PEFT match them, and a slow one is refused."""

import re
import time
from itertools import product

import pytest

from lora_tune.config.lora import LoraConfig
from lora_tune.errors import RecipeError
from lora_tune.lora import pattern_matching
from lora_tune.lora.pattern_matching import match_ends, match_whole, replace_expressions

NAMES = [
    *(
        f"transformer.h.{layer}.{name}"
        for layer, name in product((0, 1, 10, 11), ("attn.c_attn", "attn.c_proj", "mlp.c_fc"))
    ),
    *(
        f"model.layers.{layer}.self_attn.{name}_proj"
        for layer, name in product((0, 1, 11, 21), ("q", "k", "v", "o"))
    ),
    "encoder.layer.0.attention.self.query",
    "encoder.block.0.layer.0.SelfAttention.q",
    "c_fc",
    "xc_fc",
]
PATTERNS = [
    "c_attn",
    "c_fc",
    "attn.c_attn",
    "",
    "h",
    ".*",
    ".*c_.*",
    "^transformer.h.0.attn.c_attn",
    r"transformer\.h\.1\..*",
    r".*\.1\..*",
    r".*\.(0|1\d)\..*_proj",
    r"(q|k|v)_proj",
    r"[qkv]_pro\w",
    r"[^.]+\.[^.]+\.\d+\..*",
    r"[^]x]*",
    r"(?:.*\.)?(?!c_)\w+",
    r".*(?<=self_attn)\.[a-m]\w*",
    r".*\.(\d)\1\..*",
    r"(?P<digit>\d)(?P=digit).*",
    r".*\.\d{2}\.attn.*",
    r".*\.\d{1,}\.mlp.{,6}",
    r"c_f{0}fc{1}",
    r"\w+?\b.*\bq\b",
    r"(?i:.*ATTN)\.q_proj",
    r"(?>.*attn)\.c_proj",
    r".*+c_fc",
    r"(x)?c_fc(?(1)|.*)",
    r"[a-z_\-.0-9]+ATTENTION|SelfAttention.q",
    r"(?s:.)*\.query",
    r"(?a:\w+)",
    r"[~&|c-]_fc",
]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_regex_matches_what_re_matches(pattern):
    whole = {name for name in NAMES if re.fullmatch(pattern, name)}
    assert match_whole("exclude_modules", pattern, names=NAMES) == whole
    ends = {name for name in NAMES if re.match(rf"(.*\.)?({pattern})$", name)}
    assert match_ends("rank_pattern", pattern, names=NAMES) == ends


def test_a_flag_for_the_whole_pattern_is_allowed_for_exclusions():
    expected = {name for name in NAMES if name.endswith("_attn")}
    assert match_whole("exclude_modules", "(?i).*C_ATTN", names=NAMES) == expected


@pytest.mark.parametrize("pattern", PATTERNS)
def test_patterns_match_as_peft_matches_them(pattern):
    from peft.utils.other import get_pattern_key

    expected = {name for name in NAMES if get_pattern_key([pattern], name) == pattern}
    assert match_ends("rank_pattern", pattern, names=NAMES) == expected


@pytest.mark.parametrize("pattern", ["xc_fc", *PATTERNS])
def test_peft_gets_names_that_match_what_the_patterns_match(pattern):
    import peft
    from peft.tuners.tuners_utils import _ExcludedModule, check_target_module_exists
    from peft.utils.other import get_pattern_key

    lora = LoraConfig(
        exclude_modules=pattern, rank_pattern={pattern: 4}, alpha_pattern={pattern: 2.0}
    )
    found = replace_expressions(lora, targets=NAMES, adapted=NAMES)
    ends = match_ends("rank_pattern", pattern, names=NAMES)
    for given in (found.rank_pattern, found.alpha_pattern):
        assert {name for name in NAMES if get_pattern_key(given, name) in given} == ends
    config = peft.LoraConfig(target_modules=NAMES, exclude_modules=found.exclude_modules)
    excluded = {
        name
        for name in NAMES
        if isinstance(check_target_module_exists(config, name), _ExcludedModule)
    }
    assert excluded == match_whole("exclude_modules", pattern, names=NAMES)


def test_peft_gets_no_pattern_that_re_needs_exponential_time_for():
    """`regex` knows at once that a name lacks `q_proj`; `re` tries all ways to split it."""
    slow = r"([\w.]+)+q_proj"
    lora = LoraConfig(exclude_modules=slow, rank_pattern={slow: 4, "c_fc": 2})
    found = replace_expressions(lora, targets=NAMES, adapted=NAMES[12:16])
    assert found.rank_pattern == {"^model.layers.0.self_attn.q_proj": 4, "c_fc": 2}
    assert found.exclude_modules == "|".join(
        rf"model\.layers\.{layer}\.self_attn\.q_proj" for layer in (0, 1, 11, 21)
    )
    none_left = replace_expressions(lora, targets=NAMES[:4], adapted=NAMES[:4])
    assert none_left.exclude_modules is None


@pytest.mark.filterwarnings("ignore:Possible nested set:FutureWarning")  # of `re`
@pytest.mark.parametrize(
    ("pattern", "literal"),
    [
        ("(c_fc){e}", "{"),  # `regex` would match any names with an error
        ("(c_attn){e<=2}", "{"),
        (r"\\{e}", "{"),
        ("c_fc{,1}{i<3}", "{"),
        ("[[:alpha:]]_fc", "["),  # `regex` would read a POSIX class
        ("[_[:alpha:]]*", "["),
        ("[][:alpha:]]*", "["),
        (r"[^\]a[:digit:]]*", "["),
    ],
)
def test_what_regex_would_read_differently_is_refused(pattern, literal):
    re.compile(pattern)  # valid, so it is not refused earlier
    for find in (match_ends, match_whole):
        with pytest.raises(RecipeError) as caught:
            find("rank_pattern", pattern, names=NAMES)
        assert f"lora.rank_pattern: {pattern!r} has a literal {literal}, which" in str(caught.value)


@pytest.mark.parametrize("pattern", [r"\[a\{e\}", r"[\[{e}]?x{2,3}x{4}x{,5}c_fc", r"\\[a]"])
def test_escaped_brackets_are_no_problem(pattern):
    pattern = pattern.replace("{e}", "")
    assert match_whole("x", pattern, names=NAMES) == {
        name for name in NAMES if re.fullmatch(pattern, name)
    }


@pytest.mark.parametrize("find", [match_ends, match_whole])
def test_a_pattern_that_takes_too_long_is_one_line(find, monkeypatch):
    monkeypatch.setattr(pattern_matching, "MAX_SECONDS", 0.2)
    slow = r"((\w|\w\w|\.)+)+[!#]"  # seconds for these names, exponential in their length
    start = time.process_time()
    with pytest.raises(RecipeError) as caught:
        find("exclude_modules", slow, names=NAMES[:12])
    assert time.process_time() - start < 0.4
    assert str(caught.value) == (
        f"lora.exclude_modules: {slow!r} takes over 0.2 s to match the module names; expected a "
        "pattern without nested repeats, such as (a+)+"
    )


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a+)+b", r"([\w.]+)+!"])
def test_nested_repeats_end_within_the_limit(pattern):
    for find in (match_ends, match_whole):
        assert find("exclude_modules", pattern, names=["a" * 40 + "!."]) == set()
