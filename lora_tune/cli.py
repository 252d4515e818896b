"""From a verb to what it does to an exit code; the only room that prints."""

import argparse
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from typing import Any

from lora_tune.arguments import is_override, parse_arguments
from lora_tune.errors import DataError, LoraTuneError, RecipeError
from lora_tune.recipe import Recipe
from lora_tune.redaction import redact

DONE, BUG, USER_FAULT, INTERRUPTED = 0, 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb.

    Returns:
        0 done; 1 a bug in lora_tune (with its traceback); 2 the user can mend it; 130 interrupted.
    """
    options = parse_arguments(arguments)
    try:
        VERBS[options.verb](options)
    except LoraTuneError as error:
        _complain(error)
        return USER_FAULT
    except BrokenPipeError:  # the reader of what is printed, such as `head`, has seen enough
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    except KeyboardInterrupt as error:
        _complain(error, "Interrupted: nothing was published")
        return INTERRUPTED
    except Exception:  # noqa: BLE001  a bug: its traceback, without the secrets in it
        print(redact(traceback.format_exc()), file=sys.stderr)
        return BUG
    return DONE


def _train(options: argparse.Namespace) -> None:
    from lora_tune.recipe_file import load_recipe

    recipe = load_recipe(options.recipe, options.overrides)
    _prepare()
    from lora_tune.run import run_recipe

    run_recipe(recipe, output=options.output, show=_show_part)


def _predict(options: argparse.Namespace) -> None:
    _prepare()
    from lora_tune.artifact import find_adapter
    from lora_tune.input_rows import make_rows, read_rows
    from lora_tune.prediction import check_output, describe_faults, predict_rows, writing_rows
    from lora_tune.predictor import load_intake, load_predictor
    from lora_tune.tables import prediction_table

    if options.output:
        check_output(options.output, options.input)
    artifact = find_adapter(options.adapter)
    intake = load_intake(artifact)
    if options.input:
        rows = read_rows(options.input, intake, options.column, options.format)
    else:
        for cells in options.row or ():
            if len(dict(cells)) < len(cells):
                raise DataError("--row: names a column twice; begin another row with another --row")
        rows = make_rows(options.text or [dict(cells) for cells in options.row], intake)
    predictor = load_predictor(artifact, options.base)
    names = predictor.task.cell_names(predictor.labels)
    if options.output:
        with writing_rows(options.output, rows, names) as write:
            predict_rows(predictor, rows, write)
    else:
        answers: list[Any] = []
        predict_rows(predictor, rows, lambda *answer: answers.append(answer))
        _show(prediction_table(answers, names))
    faults = describe_faults(options.input or ("--text" if options.text else "--row"), rows)
    if faults:
        raise DataError(faults)


def _evaluate(options: argparse.Namespace) -> None:
    _prepare()
    from lora_tune.assessment import assess_adapter, write_comparison
    from lora_tune.tables import comparison_table

    comparison = assess_adapter(options.adapter, data=options.data, base=options.base, show=_show)
    _show(comparison_table(comparison))
    if options.output:
        write_comparison(options.output, comparison)


def _merge(options: argparse.Namespace) -> None:
    _prepare()
    from lora_tune.merging import merge_adapters
    from lora_tune.tables import parity_table

    folder = merge_adapters(
        options.adapter,
        output=options.output,
        data=options.data,
        base=options.base,
        dtype=options.dtype,
        combination=options.combine,
        weights=options.weights,
        density=options.density,
        force=options.force,
        show=lambda parity: _show_part(parity_table(parity)),
    )
    _show(f"Model: {folder}")


def _push(options: argparse.Namespace) -> None:
    _prepare()
    from lora_tune.shipping import pack_adapter, push_shipment
    from lora_tune.tables import shipment_table

    shipment = pack_adapter(options.adapter, options.repository)
    _show_part(shipment_table(shipment))
    if options.dry_run:
        _show("Dry run: nothing was sent.")
        return
    url = push_shipment(shipment, private=options.private, revision=options.revision)
    _show(f"Pushed: {url}")
    at = f"@{options.revision}" if options.revision else ""
    _show(f'Use it: lora-tune predict {shipment.repository}{at} --text "..."')


def _report(options: argparse.Namespace) -> None:
    _prepare()
    from lora_tune.report import write_report

    _show(f"Report: {write_report(options.run)}")


def _compare(options: argparse.Namespace) -> None:
    if len(options.runs) < 2:
        raise RecipeError("compare: expected two run directories or more")
    _prepare()
    from lora_tune.run_comparison import compare_runs, write_run_comparison
    from lora_tune.tables import run_table

    compared = compare_runs(options.runs)
    _show(run_table(compared))
    write_run_comparison(compared, options.output)
    _show(f"Page: {options.output}")


def _curve(options: argparse.Namespace) -> None:
    from lora_tune.recipe_file import load_recipe

    def load(more: Sequence[str]) -> Recipe:
        return load_recipe(options.recipe, [*options.overrides, *more])

    load([])  # its faults are told before the heavy imports
    _prepare()
    from lora_tune.curve import draw_curve

    page = draw_curve(load, rows=options.rows, output=options.output, show=_show_part)
    _show(f"Page: {page}")


def _params(options: argparse.Namespace) -> None:
    from lora_tune.recipe_file import load_recipe

    overrides = list(filter(is_override, options.overrides))
    names = [word for word in options.overrides if not is_override(word)]
    if not names:
        raise RecipeError("params: expected the name of a recipe, or several")
    recipes = [load_recipe(name, overrides) for name in names]
    _prepare()
    from lora_tune.counting import count_recipe
    from lora_tune.tables import parameter_table

    _show(parameter_table([count_recipe(recipe) for recipe in recipes]))


VERBS = {
    "train": _train,
    "predict": _predict,
    "evaluate": _evaluate,
    "merge": _merge,
    "push": _push,
    "report": _report,
    "compare": _compare,
    "curve": _curve,
    "params": _params,
}


def _prepare() -> None:
    """Set up the process for heavy work; the imports that follow it take seconds."""
    # A polite kill clears up as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    from lora_tune.environment import keep_freed_memory, quiet_libraries

    keep_freed_memory()
    quiet_libraries()


def _show_part(text: str) -> None:
    """Print a part of a longer output, tables set off by a blank line."""
    _show(f"{text}\n" if "\n" in text else text)


def _show(text: str) -> None:
    try:
        print(redact(text), flush=True)
    except BrokenPipeError:  # the reader, such as `head`, has seen enough; the run goes on
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115


def _complain(error: BaseException, message: str | None = None) -> None:
    lines = [message or str(error), *getattr(error, "__notes__", [])]
    print(redact("\n".join(lines)), file=sys.stderr)
