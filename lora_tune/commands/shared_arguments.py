"""Arguments that several verbs have in common."""

import argparse
from pathlib import Path
from typing import TypeAlias

# What argparse's add_subparsers returns; not generic at run time.
Verbs: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def add_verb(verbs: Verbs, name: str, summary: str) -> argparse.ArgumentParser:
    """Add a verb to the command line.

    Args:
        verbs: of the command line.
        name: of the verb.
        summary: for the help.

    Returns:
        The parser of its arguments.
    """
    return verbs.add_parser(name, help=summary, description=summary)


def add_recipe(parser: argparse.ArgumentParser) -> None:
    """Add a recipe and its overrides."""
    parser.add_argument("recipe", metavar="RECIPE", help="name of a recipe in recipes/, or a path")
    parser.add_argument(
        "overrides", metavar="key=value", nargs="*", help="recipe keys, such as lora.rank=16"
    )


def add_adapter(parser: argparse.ArgumentParser, *, nargs: str | None = None) -> None:
    """Add an adapter, or with `nargs` several."""
    parser.add_argument(
        "adapter",
        metavar="ADAPTER",
        nargs=nargs,
        help="the directory of an adapter or a baseline, or a Hub ID, owner/name[@revision]",
    )


def add_base(parser: argparse.ArgumentParser) -> None:
    """Add the place of the base model."""
    parser.add_argument(
        "--base",
        metavar="MODEL",
        help="folder or Hub ID of the base model (default: the one that the manifest names)",
    )


def add_data(parser: argparse.ArgumentParser) -> None:
    """Add a file of labeled rows."""
    parser.add_argument(
        "--data",
        metavar="FILE",
        type=Path,
        help="labeled rows (default: the test rows of its run)",
    )


def is_override(word: str) -> bool:
    """Whether a word of the command line is a recipe's `key=value`."""
    return "=" in word and not word.startswith("-")
