"""`train`: trains a recipe's adapter and compares it with every baseline."""

import argparse
from pathlib import Path
from typing import get_args

from lora_tune.commands.output import show_part
from lora_tune.commands.process_setup import prepare_process
from lora_tune.commands.shared_arguments import Verbs, add_recipe, add_verb
from lora_tune.evaluation.results import Keep
from lora_tune.tasks.recipes import load_recipe


def add_parser(verbs: Verbs) -> argparse.ArgumentParser:
    """Add `train` to the command line."""
    parser = add_verb(
        verbs, "train", "train a recipe's adapter and compare it with the base model and baselines"
    )
    add_recipe(parser)
    parser.add_argument(
        "--output",
        metavar="DIR",
        type=Path,
        help="the run directory (default: runs/<recipe>/<UTC time>)",
    )
    parser.add_argument(
        "--keep",
        choices=get_args(Keep),
        default="best",
        help="best (default) also saves the TF-IDF baseline or the linear probe where it is the "
        "best baseline and LoRA is not significantly better; lora saves the adapter only",
    )
    return parser


def run(options: argparse.Namespace) -> None:
    """Train, and print what is known as soon as it is known."""
    recipe = load_recipe(options.recipe, options.overrides)
    prepare_process()
    from lora_tune.run import run_recipe

    run_recipe(recipe, output=options.output, show=show_part, keep=options.keep)
