"""Ludwig: a text encoder with LoRA and a category, as its configuration says it."""

import os
import sys
import time
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec
from typing import Any

import pandas
import torch
from work import Work, read_rows, read_work, report

# It imports torchvision and torchaudio, which PyPI has for CUDA alone; texts have no need of them.
operators = torch.library.Library("torchvision", "DEF")
for name in ("nms", "qnms"):
    operators.define(f"{name}(Tensor boxes, Tensor scores, float threshold) -> Tensor")
sys.modules["torchaudio"] = module_from_spec(ModuleSpec("torchaudio", None))
vars(sys.modules["torchaudio"])["__version__"] = "2.11.0"
from ludwig.api import LudwigModel  # noqa: E402


def configure(work: Work) -> dict[str, Any]:
    """Say the work in Ludwig's words."""
    encoder = {
        "type": "auto_transformer",
        "pretrained_model_name_or_path": work.base,
        "trainable": True,
        "adapter": {"type": "lora", "r": work.rank, "alpha": work.alpha},
    }
    text = {"name": "text", "type": "text", "encoder": encoder}
    text |= {"preprocessing": {"max_sequence_length": work.max_length}}
    return {
        "input_features": [text],
        "output_features": [{"name": "label", "type": "category"}],
        "preprocessing": {"split": {"type": "random", "probabilities": [0.9, 0.1, 0.0]}},
        "trainer": {
            "epochs": work.epochs,
            "batch_size": work.batch,
            "learning_rate": work.learning_rate,
        },
    }


work = read_work()
os.chdir(work.folder)  # where it keeps the rows that it has encoded
rows = pandas.DataFrame(read_rows(work.train))
model = LudwigModel(configure(work))
start = time.perf_counter()
model.train(dataset=rows, output_directory=work.folder, random_seed=work.seed)
seconds = time.perf_counter() - start
found, _ = model.predict(dataset=pandas.DataFrame(read_rows(work.test)))
report(
    "ludwig",
    train_seconds=seconds,
    settings="its defaults beside these; stand-ins for torchvision and torchaudio",
    answers=found["label_predictions"].astype(int).tolist(),
)
