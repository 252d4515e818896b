"""Target modules are resolved and checked before weights are loaded.

Much of it PEFT would refuse late, or ignore silently.
"""

import pytest

from lora_tune.config.lora import LoraConfig
from lora_tune.config.model import ModelConfig
from lora_tune.errors import LoraTuneError, RecipeError
from lora_tune.lora.adapter import adapted_layers, attach_adapter
from lora_tune.lora.target_modules import resolve_target_modules
from lora_tune.models.checkpoint import resolve_checkpoint
from lora_tune.models.loading import build_meta_model
from tests.parts import TASK
from tests.tiny import make_base


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Base models without weights: nothing here may need them."""
    root = tmp_path_factory.mktemp("targets")
    made = {name: make_base(root / name, name) for name in ("bert-base-cased", "gpt2", "llama")}
    for folder in made.values():
        (folder / "model.safetensors").unlink()
    return made


def adapted_paths(folder, lora, **model):
    """The paths that PEFT adapts for the resolved target modules."""
    config = ModelConfig(name=str(folder), **model)
    base = resolve_checkpoint(config, weights=False)
    targets = resolve_target_modules(base, config, lora=lora, task=TASK)
    blank, head = build_meta_model(base, config, task=TASK, labels=["a", "b"])
    adapted = attach_adapter(blank, lora, targets=targets, head=head, task=TASK)
    return [path for path, _ in adapted_layers(adapted)]


QUERY = "bert.encoder.layer.{}.attention.self.query"


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"target_modules": ["query"]}, [QUERY.format(0), QUERY.format(1)]),
        ({"target_modules": ["query"], "layers_to_transform": [1]}, [QUERY.format(1)]),
        ({"target_modules": ["query"], "exclude_modules": ["0.attention.self.query"]}, ["1"]),
        ({"target_modules": ["query"], "exclude_modules": r".*\.0\..*"}, [QUERY.format(1)]),
        ({"target_modules": ["query", "dense"], "modules_to_save": ["dense"]}, None),
        ({"target_modules": ["query", "dense"], "modules_to_save": ["pooler"]}, 8),
        ({"layers_to_transform": [0]}, 6),
        ({"exclude_modules": ["pooler.dense"]}, 12),
        ({"exclude_modules": ["key", "dense"]}, 4),
        ({"modules_to_save": ["pooler"]}, 12),
    ],
)
def test_peft_adapts_what_the_recipe_names(folders, keys, expected):
    if expected is None:
        with pytest.raises(RecipeError, match=r"all of 'dense' is removed by exclude_modules"):
            adapted_paths(folders["bert-base-cased"], LoraConfig(rank=4, **keys))
        return
    found = adapted_paths(folders["bert-base-cased"], LoraConfig(rank=4, **keys))
    if isinstance(expected, int):
        assert len(found) == expected
    else:
        assert found == [QUERY.format(1) if path == "1" else path for path in expected]


def test_all_linear_adapts_only_the_given_layers(tmp_path):
    folder = make_base(tmp_path / "roberta", "roberta-base")
    lora = LoraConfig(rank=4, layers_to_transform=[1])
    found = adapted_paths(folder, lora)
    assert found
    assert all(".layer.1." in path for path in found)


REFUSED = [
    # PEFT ignores these silently or with a warning.
    ("bert-base-cased", {"rank_pattern": {"querry": 4}}, "lora.rank_pattern: 'querry' matches no "
     "adapted module; did you mean query?"),
    ("bert-base-cased", {"target_modules": ["query"], "alpha_pattern": {"key": 4}},
     "lora.alpha_pattern: 'key' matches no adapted module"),
    ("bert-base-cased", {"rank_pattern": {"query": 4, ".*0.*query": 6}}, "lora.rank_pattern: "
     "'query' and '.*0.*query' both match bert.encoder.layer.0.attention.self.query; expected one"),
    ("bert-base-cased", {"rank_pattern": {"query": 64}}, "lora.rank_pattern: 64 is above 32, the "
     "full rank of bert.encoder.layer.0.attention.self.query"),
    ("bert-base-cased", {"layers_to_transform": [0, 7]}, "lora.layers_to_transform: found 7, but "
     "the layers of"),
    ("bert-base-cased", {"target_modules": ["pooler.dense"], "layers_to_transform": [0]},
     "lora.layers_to_transform: found 0, but the layers of"),
    ("bert-base-cased", {"target_modules": ["query", "pooler.dense"], "layers_to_transform": [0]},
     "lora.target_modules: all of 'pooler.dense' is removed by exclude_modules, "),
    ("bert-base-cased", {"target_modules": ["key", QUERY.format(0)], "layers_to_transform": [1]},
     f"lora.target_modules: {QUERY.format(0)} is removed by exclude_modules, layers_to_transform"),
    ("bert-base-cased", {"exclude_modules": ["querry"]}, "lora.exclude_modules: 'querry' matches "
     "no target module; did you mean query?"),
    ("bert-base-cased", {"exclude_modules": "query"}, "lora.exclude_modules: 'query' matches no "
     "target module; did you mean query?"),
    ("bert-base-cased", {"exclude_modules": ".*"}, "lora.target_modules: exclude_modules, "
     "layers_to_transform and modules_to_save remove all of its modules; keep at least one"),
    ("bert-base-cased", {"modules_to_save": ["LayerNrom"]}, "lora.modules_to_save: 'LayerNrom' "
     "matches no module of the base model below its head or output layer; did you mean LayerNorm?"),
    ("bert-base-cased", {"target_modules": ["word_embeddings"], "init_lora_weights": "pissa"},
     "lora.init_lora_weights: pissa is for linear layers, found bert.embeddings.word_embeddings, a "
     "Embedding"),
    ("bert-base-cased", {"target_modules": ["word_embeddings"], "init_lora_weights": "gaussian"},
     "lora.init_lora_weights: gaussian is for linear layers"),
    ("bert-base-cased", {"target_modules": ["word_embeddings"], "lora_plus_ratio": 4.0},
     "lora.lora_plus_ratio: is for linear layers"),
    # PEFT fails late or never ends, or computes something else.
    ("gpt2", {"init_lora_weights": "olora"}, "lora.init_lora_weights: olora cannot initialize "
     "transformer.h.0.attn.c_attn, a Conv1D; use pissa"),
    ("llama", {"rank": 20, "init_lora_weights": "pissa"}, "lora.init_lora_weights: pissa takes a "
     "rank of at most 16 for model.layers.0.self_attn.k_proj, found 20"),
    ("llama", {"rank": 20, "init_lora_weights": "olora"}, "lora.init_lora_weights: olora takes a "),
    ("llama", {"rank": 17, "init_lora_weights": "eva", "target_modules": ["q_proj"]},
     "lora.init_lora_weights: eva takes ranks of at most 16, half of the input features"),
    ("bert-base-cased", {"modules_to_save": ["encoder.layer"]}, "lora.modules_to_save: "
     "bert.encoder.layer is a ModuleList; name the modules inside it"),
    ("bert-base-cased", {"modules_to_save": ["dropout"]}, "is a Dropout, which has no parameters"),
    ("bert-base-cased", {"modules_to_save": ["pooler", "pooler.dense"]}, "lora.modules_to_save: "
     "bert.pooler.dense is inside bert.pooler; name only one of them"),
    ("bert-base-cased", {"modules_to_save": ["bert"]}, "remove all of its modules"),
]  # fmt: skip


@pytest.mark.parametrize(("base", "keys", "words"), REFUSED)
def test_invalid_settings_are_refused(folders, base, keys, words):
    with pytest.raises(LoraTuneError) as caught:
        adapted_paths(folders[base], LoraConfig(**{"rank": 4} | keys))
    assert words in str(caught.value)


def test_a_quantized_module_is_not_trained_in_full(folders):
    lora = LoraConfig(rank=4, modules_to_save=["pooler"])
    with pytest.raises(RecipeError, match=r"bert.pooler is quantized and cannot be trained"):
        adapted_paths(folders["bert-base-cased"], lora, quantization="4bit")
    norms = LoraConfig(rank=4, modules_to_save=["LayerNorm"])
    assert adapted_paths(folders["bert-base-cased"], norms, quantization="4bit")


def test_a_pattern_that_takes_too_long_is_refused(folders, monkeypatch):
    monkeypatch.setattr("lora_tune.lora.pattern_matching.MAX_SECONDS", 1)
    lora = LoraConfig(rank=4, rank_pattern={r"(.|\w|.)*[!?]": 2})
    with pytest.raises(RecipeError, match="takes over 1 s to match the module names"):
        adapted_paths(folders["bert-base-cased"], lora)
