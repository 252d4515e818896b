"""What the `lora:` section forbids by itself, and what no pattern may do."""

import json

import pytest

from lora_tune.errors import RecipeError
from lora_tune.lora import INITIALISATIONS, LoraConfig
from lora_tune.matching import match_ends, match_whole
from lora_tune.recipe_file import load_recipe

MINIMAL = "model: {name: base}\ndata: {source: rows.csv}\n"


@pytest.fixture
def load(tmp_path):
    def load_with(*overrides, text=""):
        path = tmp_path / "mine.yaml"
        path.write_text(MINIMAL + text)
        return load_recipe(str(path), overrides)

    return load_with


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        ("lora.init_lora_weights=pisa", "lora.init_lora_weights found 'pisa', expected default, g"),
        ("lora.init_lora_weights=pissa_niter_", "lora.init_lora_weights found 'pissa_niter_', exp"),
        ("lora.init_lora_weights=true", "lora.init_lora_weights: found True (true or false), exp"),
        (
            "lora.init_lora_weights=orthogonal lora.rank=3",
            "lora.init_lora_weights orthogonal needs even ranks, got 3",
        ),
        (
            "lora.init_lora_weights=orthogonal lora.rank_pattern={query: 5}",
            "lora.init_lora_weights orthogonal needs even ranks, got 5",
        ),
        (
            "lora.init_lora_weights=loftq",
            "lora.init_lora_weights loftq makes up for 4 bits, found model.quantization=null; se",
        ),
        (
            "lora.init_lora_weights=loftq model.quantization=8bit",
            "lora.init_lora_weights loftq makes up for 4 bits, found model.quantization=8bit; se",
        ),
        *(
            (
                f"lora.init_lora_weights={start} model.quantization={bits}",
                f"lora.init_lora_weights {start} needs a base in full precision; set model.quantiz",
            )
            for start in ("pissa", "pissa_niter_4", "olora", "orthogonal")
            for bits in ("4bit", "8bit")
        ),
        (
            "lora.use_dora=true model.quantization=8bit",
            "lora.use_dora cannot read 8-bit weights; set model.quantization=4bit or null",
        ),
        *(
            (
                f"lora.init_lora_weights={start} model.dtype=bfloat16",
                f"lora.init_lora_weights {start} needs a base in full precision; set model.dtype",
            )
            for start in ("pissa", "orthogonal")
        ),
        (
            "lora.bias=all model.dtype=bfloat16",
            "lora.bias trains weights of the base, found model.dtype=bfloat16; set model.dtype=fl",
        ),
        (
            "lora.modules_to_save=[LayerNorm] model.dtype=float16",
            "lora.modules_to_save trains weights of the base, found model.dtype=float16; set mode",
        ),
        (
            "ladder.last_layers=1 model.quantization=4bit model.dtype=bfloat16",
            "ladder cannot train weights of a base in 4-bit (nf4) and bfloat16; set model.quantiz",
        ),
        ("lora.use_dora=1", "lora.use_dora: found 1 (a whole number), expected true or false"),
        ("lora.rank_pattern={query: 0}", "lora.rank_pattern must be >= 1, got 0 for 'query'"),
        ("lora.rank_pattern={query: x}", "lora.rank_pattern: found {'query': 'x'} (dict), expect"),
        ("lora.rank_pattern={0: 4}", "lora.rank_pattern: found {0: 4} (dict), expected a mapping"),
        ("lora.rank_pattern=4", "lora.rank_pattern: found 4 (a whole number), expected a mapping"),
        ("lora.alpha_pattern={query: 0}", "lora.alpha_pattern must be above 0, got 0.0 for 'query"),
        (
            'lora.alpha_pattern={"(": 4}',
            "lora.alpha_pattern found '(', expected a name or a regular expression: missing ), unt",
        ),
        (
            'lora.rank_pattern={"(?i)query": 4}',
            "lora.rank_pattern found '(?i)query', expected a name or a regular expression: global",
        ),
        ("lora.exclude_modules='['", "lora.exclude_modules found '[', expected a name or a regul"),
        ("lora.exclude_modules=[]", "lora.exclude_modules found [], expected null, a list of modu"),
        ("lora.exclude_modules=[1]", "lora.exclude_modules found [1], expected null, a list of m"),
        ("lora.layers_to_transform=[]", "lora.layers_to_transform found [], expected numbers from"),
        ("lora.layers_to_transform=[-1]", "lora.layers_to_transform found [-1], expected numbers "),
        ("lora.layers_to_transform=1", "lora.layers_to_transform: found 1 (a whole number), expe"),
        ("lora.bias=some", "lora.bias: found 'some' (text), expected none or all or lora_only"),
        ("lora.modules_to_save=[]", "lora.modules_to_save found [], expected module names, or n"),
        ("lora.modules_to_save=x", "lora.modules_to_save: found 'x' (text), expected a list of te"),
        ("lora.lora_plus_ratio=0.5", "lora.lora_plus_ratio must be >= 1, or null, got 0.5"),
    ],
)
def test_what_does_not_go_together_gets_one_line(load, overrides, line):
    keys = overrides.replace(" lora.", "\nlora.").replace(" model.", "\nmodel.").split("\n")
    with pytest.raises(RecipeError) as caught:
        load(*keys)
    (only,) = str(caught.value).splitlines()
    assert only.startswith(f"command line: {line}") or f"mine.yaml: {line}" in only


def test_every_start_is_allowed_where_its_base_is(load):
    for start in (*INITIALISATIONS, "pissa_niter_16"):
        bits = "4bit" if start == "loftq" else "null"
        recipe = load(f"lora.init_lora_weights={start}", f"model.quantization={bits}")
        assert recipe.lora.changes_base == (start.startswith("pissa") or start == "olora")


def test_a_pattern_may_have_dots_and_travels_in_the_recorded_recipe(load, tmp_path):
    text = "lora: {rank_pattern: {layer.0.query: 4}, alpha_pattern: {'.*key': 3}}\n"
    recipe = load("lora.rank_pattern={layer.1.query: 6}", text=text)
    assert recipe.lora.rank_pattern == {"layer.0.query": 4, "layer.1.query": 6}
    assert recipe.lora.alpha_pattern == {".*key": 3.0}
    (tmp_path / "again.yaml").write_text(recipe.text)
    assert load_recipe(str(tmp_path / "again.yaml")).lora == recipe.lora


NAMES = ["h.0.attn.c_attn", "h.1.attn.c_attn", "h.1.mlp.c_fc", "xc_fc"]


@pytest.mark.parametrize(
    "pattern", ["c_attn", "c_fc", "attn.c_attn", r"h\.1\..*", ".*c_.*", "^h.0.attn.c_attn", "", "h"]
)
def test_patterns_match_as_peft_matches_them(pattern):
    from peft.utils.other import get_pattern_key

    expected = {name for name in NAMES if get_pattern_key([pattern], name) == pattern}
    assert match_ends("rank_pattern", pattern, NAMES) == expected


@pytest.mark.parametrize("pattern", ["c_attn", "xc_fc", r".*\.1\..*", "(?i).*ATTN"])
def test_exclusions_match_as_peft_matches_them(pattern):
    import peft
    from peft.tuners.tuners_utils import _ExcludedModule, check_target_module_exists

    config = peft.LoraConfig(target_modules=["c_attn"], exclude_modules=pattern)
    expected = {
        name
        for name in NAMES
        if isinstance(check_target_module_exists(config, name), _ExcludedModule)
    }
    assert match_whole("exclude_modules", pattern, NAMES) == expected


def test_a_pattern_that_never_ends_is_one_line(monkeypatch):
    monkeypatch.setattr("lora_tune.matching.SECONDS", 1)
    for find in (match_ends, match_whole):
        with pytest.raises(RecipeError, match=r"lora.x: .*takes over 1 s to match the module name"):
            find("x", "(a+)+b", ["a" * 40])


def test_the_defaults_are_plain_lora():
    assert json.loads(json.dumps(vars(LoraConfig()))) == {
        "rank": 8,
        "alpha": 16,
        "dropout": 0.05,
        "target_modules": "all-linear",
        "exclude_modules": None,
        "layers_to_transform": None,
        "rank_pattern": {},
        "alpha_pattern": {},
        "init_lora_weights": "default",
        "use_rslora": False,
        "use_dora": False,
        "bias": "none",
        "modules_to_save": None,
        "lora_plus_ratio": None,
    }
