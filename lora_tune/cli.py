"""The command line: from a verb to an exit code."""

import argparse
import traceback
from collections.abc import Sequence
from importlib.metadata import version

from lora_tune.commands import (
    compare,
    curve,
    data,
    evaluate,
    merge,
    params,
    predict,
    push,
    report,
    train,
)
from lora_tune.commands.output import discard_output, show_error
from lora_tune.commands.shared_arguments import is_override
from lora_tune.errors import LoraTuneError

VERBS = (data, train, predict, evaluate, merge, push, report, compare, curve, params)
DONE, BUG, USER_ERROR, INTERRUPTED = 0, 1, 2, 130  # exit codes


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb.

    Args:
        arguments: of the command line; None for those of this process.

    Returns:
        The exit code: 0 done; 1 a bug in lora_tune (with its traceback); 2 an error that the user
        can fix; 130 interrupted.
    """
    options = parse_arguments(arguments)
    try:
        options.verb.run(options)
    except LoraTuneError as error:
        show_error(_with_notes(str(error), error))
        return USER_ERROR
    except BrokenPipeError:  # the reader of the output, such as `head`, has closed it
        discard_output()
    except KeyboardInterrupt as error:
        show_error(_with_notes("Interrupted: nothing was published", error))
        return INTERRUPTED
    except Exception:  # noqa: BLE001  a bug: its traceback, without secrets
        show_error(traceback.format_exc())
        return BUG
    return DONE


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse a command line; exits with code 2 and a message where it is wrong.

    Returns:
        Its options; `verb` is the module of the verb.
    """
    parser = _make_parser()
    options, rest = parser.parse_known_args(arguments)
    if rest and not (hasattr(options, "overrides") and all(map(is_override, rest))):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        options.overrides += rest  # those after an option
    return options


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lora-tune",
        description="Fine-tune a model with LoRA, and measure whether it was worth training.",
    )
    parser.add_argument("--version", action="version", version=f"lora_tune {version('lora-tune')}")
    verbs = parser.add_subparsers(title="verbs", required=True, metavar="VERB")
    for verb in VERBS:
        verb.add_parser(verbs).set_defaults(verb=verb)
    return parser


def _with_notes(message: str, error: BaseException) -> str:
    return "\n".join([message, *getattr(error, "__notes__", [])])
