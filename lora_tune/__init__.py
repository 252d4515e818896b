"""Fine-tune a model with LoRA from a recipe file, and know that it worked.

The public names are imported when first used, so that `lora-tune --help` need not wait for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lora_tune.artifacts.saved_adapter import load_adapter as load_adapter
    from lora_tune.errors import LoraTuneError as LoraTuneError
    from lora_tune.run import run_recipe as run_recipe
    from lora_tune.tasks.recipes import load_recipe as load_recipe

_MODULES = {
    "LoraTuneError": "errors",
    "load_adapter": "artifacts.saved_adapter",
    "load_recipe": "tasks.recipes",
    "run_recipe": "run",
}
__all__ = ["LoraTuneError", "load_adapter", "load_recipe", "run_recipe"]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'lora_tune' has no attribute {name!r}")
    return getattr(import_module(f"lora_tune.{_MODULES[name]}"), name)
