"""Every command and every Python example in README and docs, run as it is written there."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w+)?(?: file=(\S+))?\n(.*?)^```", re.MULTILINE | re.DOTALL)
# What test_quickstart.py runs as it is written.
RUN_ELSEWHERE = {"make train RECIPE=quickstart"}


def blocks(page):
    """The fenced blocks of a page that are run or saved: (kind, file, content)."""
    found = [match.groups() for match in BLOCK.finditer(page.read_text())]
    return [(kind, file, text) for kind, file, text in found if file or kind in ("sh", "python")]


@pytest.fixture(scope="session")
def checkout(tmp_path_factory):
    """A checkout of the project with a small run of the quickstart recipe."""
    folder = tmp_path_factory.mktemp("checkout")
    for path in ROOT.iterdir():
        if path.name not in ("runs", "curves", ".venv", "merged"):
            (folder / path.name).symlink_to(path)
    (folder / ".venv").symlink_to(sys.prefix)
    small = "data.train_rows=80 data.max_length=64 training.num_train_epochs=1"
    run(f"lora-tune train quickstart {small}", folder)
    return folder


def run(script, folder):
    environment = os.environ | {"PATH": f"{sys.prefix}/bin:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"{script}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_run_as_written(page, checkout):
    scripts = []
    for kind, file, text in blocks(page):
        if file:
            (checkout / file).write_text(text)
        elif kind == "python":
            scripts.append(f"python - <<'END'\n{text}END\n")
        elif text.strip() not in RUN_ELSEWHERE:
            scripts.append(text)
    for script in scripts:
        run(script, checkout)


# The language of a block, its text, and the text of a block without a language right after it.
FENCES = re.compile(r"^```([^\n]+)\n(.*?)^```\n(?:\n```\n(.*?)^```)?", re.M | re.S)


def test_the_rows_that_docs_show_are_those_that_are_printed(tmp_path):
    """Of each `lora-tune data` that is followed by a block without a language."""
    page = (ROOT / "docs" / "your-data.md").read_text()
    compared = 0
    (tmp_path / "lora_tune").symlink_to(ROOT / "lora_tune")
    for info, text, shown in FENCES.findall(page):
        if info.startswith("yaml file="):
            (tmp_path / info.removeprefix("yaml file=")).write_text(text)
        elif info == "sh" and "lora-tune data" in text and shown:
            printed = run(text, tmp_path)
            assert shown.strip() in printed
            compared += 1
        elif info == "sh" and "lora-tune" not in text and not text.startswith("pip"):
            run(text, tmp_path)
    assert compared >= 2


def test_there_are_commands():
    assert {page.name for page in PAGES if blocks(page)} >= {
        "README.md",
        "your-data.md",
        "adapter-format.md",
        "baselines-and-statistics.md",
    }


def test_what_quickstart_runs_is_in_the_readme():
    for command in RUN_ELSEWHERE:
        assert f"\n{command}\n" in (ROOT / "README.md").read_text()
        assert command in Path(__file__).with_name("test_quickstart.py").read_text()
