"""`report`: writes a finished run's page again."""

import argparse
from pathlib import Path

from lora_tune.commands.output import show
from lora_tune.commands.process_setup import prepare_process
from lora_tune.commands.shared_arguments import Verbs, add_verb
from lora_tune.report.page import write_report


def add_parser(verbs: Verbs) -> argparse.ArgumentParser:
    """Add `report` to the command line."""
    parser = add_verb(verbs, "report", "write a run's page, report.html, again")
    parser.add_argument("run", metavar="RUN", type=Path, help="a run directory")
    return parser


def run(options: argparse.Namespace) -> None:
    """Write the page, and print its path."""
    prepare_process()
    show(f"Report: {write_report(options.run)}")
