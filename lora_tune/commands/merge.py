"""`merge`: writes a plain model from one adapter or several and their base model."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lora_tune.artifacts.merged_model import (
    Combination,
    Parity,
    check_compatible,
    write_merged_model,
)
from lora_tune.artifacts.saved_adapter import find_adapter
from lora_tune.commands.evaluation_rows import load_evaluation_rows
from lora_tune.commands.output import show, show_part
from lora_tune.commands.process_setup import prepare_process
from lora_tune.commands.shared_arguments import Verbs, add_adapter, add_base, add_data, add_verb
from lora_tune.errors import ArtifactError
from lora_tune.report.tables import format_table
from lora_tune.system.atomic_directory import resolve_output

DTYPES = ("float32", "bfloat16", "float16")
COMBINATIONS = ("linear", "ties", "dare_linear", "dare_ties")
DEFAULT_COMBINATION = "linear"
DEFAULT_DENSITY = 0.5


@dataclass(frozen=True)
class MergeOptions:
    """How adapters are merged; None for the default."""

    dtype: str = "float32"  # of the merged weights, one of DTYPES
    combination: str | None = None  # of several adapters, one of COMBINATIONS
    weights: Sequence[float] | None = None  # of several adapters; default: equal, with a sum of 1
    density: float | None = None  # share of values that TIES and DARE keep
    force: bool = False  # whether to write the model however far its outputs are off

    def check(self, adapters: int) -> None:
        """Check the options for a number of adapters.

        Raises:
            ArtifactError: an option does not apply, or there are too few or too many weights.
        """
        if adapters == 1 and (self.combination or self.weights):
            raise ArtifactError(
                "--combine, --weights: found one adapter, expected several to combine"
            )
        is_linear = (self.combination or DEFAULT_COMBINATION) == "linear"
        if self.density is not None and (adapters == 1 or is_linear):
            raise ArtifactError(
                "--density: applies only with --combine ties, dare_linear or dare_ties"
            )

    def adapter_weights(self, adapters: int) -> list[float]:
        """Give one weight for each of a number of adapters.

        Raises:
            ArtifactError: there are too few or too many, or their sum is not above 0.
        """
        if self.weights is None:
            return [1 / adapters] * adapters
        if len(self.weights) != adapters or not sum(self.weights) > 0:
            raise ArtifactError(
                f"--weights: found {list(self.weights)}, expected {adapters}, one for each "
                "adapter, with a sum above 0"
            )
        return list(self.weights)


def add_parser(verbs: Verbs) -> argparse.ArgumentParser:
    """Add `merge` to the command line."""
    parser = add_verb(verbs, "merge", "merge adapters into their base model: a plain model")
    add_adapter(parser, nargs="+")
    add_base(parser)
    add_data(parser)
    parser.add_argument(
        "--output", metavar="DIR", type=Path, required=True, help="directory of the merged model"
    )
    parser.add_argument(
        "--dtype",
        choices=DTYPES,
        default="float32",
        help="of the merged weights (default: float32)",
    )
    parser.add_argument(
        "--combine",
        choices=COMBINATIONS,
        help="how several adapters are combined: linear (default) adds their exact weight updates, "
        "the others work as in PEFT",
    )
    parser.add_argument(
        "--weights",
        metavar="W",
        nargs="+",
        type=float,
        help="one for each of several adapters (default: equal, with a sum of 1)",
    )
    parser.add_argument(
        "--density",
        metavar="D",
        type=_parse_share,
        help=f"share of values that ties and dare keep (default: {DEFAULT_DENSITY})",
    )
    parser.add_argument(
        "--force",
        action="store_true",
        help="write the model even if its outputs differ too much from the adapter's",
    )
    return parser


def run(options: argparse.Namespace) -> None:
    """Merge, and print how far the outputs changed."""
    prepare_process()
    folder = merge_adapters(
        options.adapter,
        output=options.output,
        data=options.data,
        base=options.base,
        options=MergeOptions(
            options.dtype, options.combine, options.weights, options.density, options.force
        ),
        show=lambda parity: show_part(parity_table(parity)),
    )
    show(f"Model: {folder}")


def merge_adapters(
    sources: Sequence[str | Path],
    *,
    output: Path,
    data: Path | None = None,
    base: str | None = None,
    options: MergeOptions | None = None,
    show: Callable[[Parity], None],
) -> Path:
    """Merge adapters into their base model and write a plain transformers model.

    Args:
        sources: adapter directories or Hub IDs, all with the same base model and labels.
        output: a new or empty directory.
        data: labeled rows to compare outputs on; None for the test rows of the first adapter's
            run.
        base: a folder or Hub ID of the base model; None for the one that the first adapter names.
        options: how to merge; None for the defaults.
        show: takes the parity report.

    Returns:
        The directory of the model.

    Raises:
        LoraTuneError: an adapter, its base model or the rows are wrong; the adapters cannot be
            combined; or the outputs of the merged model differ too much.
    """
    options = options or MergeOptions()
    final = resolve_output(output)
    options.check(len(sources))
    adapters = [find_adapter(source) for source in sources]
    check_compatible(adapters)
    combination = Combination(
        adapters,
        options.adapter_weights(len(adapters)),
        options.combination or DEFAULT_COMBINATION,
        DEFAULT_DENSITY if options.density is None else options.density,
    )
    write_merged_model(
        combination,
        load_evaluation_rows(combination.first, data).split,
        final,
        base=base,
        dtype=options.dtype,
        force=options.force,
        show=show,
    )
    return final


def parity_table(parity: Parity) -> str:
    """Format how far merging changed outputs and the metric."""
    rows = [
        ["largest logit difference", f"{parity.largest_logit_difference:.2g}"],
        ["flipped predictions", f"{parity.flipped_predictions} of {parity.predictions}"],
        [f"{parity.metric}, base model with adapter", f"{parity.unmerged:.4f}"],
        [f"{parity.metric}, merged model", f"{parity.merged:.4f}"],
    ]
    precision = " ".join(
        filter(None, [parity.base_quantization, parity.base_dtype.removeprefix("float32")])
    )
    base = f"{precision} base model, " if precision else ""
    method = f"{parity.combination} of {len(parity.adapters)}, " if parity.combination else ""
    return format_table(rows, [f"merged: {method}{base}{parity.dtype}", ""])


def _parse_share(word: str) -> float:
    share = float(word)
    if not 0 < share <= 1:
        raise argparse.ArgumentTypeError(f"must be above 0 and at most 1, got {word}")
    return share
