"""The structure of the package: import contracts, sizes of files and functions, and names."""

import ast
import re
import shutil
import subprocess
import sys
import tomllib

import pytest

from tests.conftest import ROOT

PACKAGE = ROOT / "lora_tune"
FILES = sorted(PACKAGE.rglob("*.py"))
PAGES = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "docs").rglob("*.py")]
TEXTS = sorted([*FILES, *PACKAGE.rglob("*.jinja"), *PACKAGE.rglob("*.md"), *PAGES])
MAX_LINES = 300
MAX_PARAMETERS = 8
OLD_NAMES = re.compile(
    r"rung|ladder|\btold\b|alike|foretell|spoilt|hardly learnt|words alone|head alone",
    re.IGNORECASE,
)
# Where names of 0.1.0 are translated to today's: the parts of these files that are not searched.
TRANSLATIONS = {
    PACKAGE / "config/renamed_keys.py": re.compile(r".*"),
    PACKAGE / "artifacts/run_reader.py": re.compile(r'"rungs?"'),
}
RENAMING_TABLE = re.compile(r"^\| *`[^`|]+`")  # the first cell of a row


def lint_imports(folder):
    """Check the import contracts of pyproject.toml for the package in a folder."""
    code = (
        "from importlinter.cli import lint_imports as lint; raise SystemExit(lint(no_cache=True))"
    )
    return subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)


@pytest.fixture
def copy(tmp_path):
    """A copy of the package and of its import contracts."""
    ignored = shutil.ignore_patterns(".*", "__pycache__", "embedded")
    shutil.copytree(PACKAGE, tmp_path / "lora_tune", ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_the_import_contracts_hold(copy):
    done = lint_imports(copy)
    assert done.returncode == 0, done.stdout


def test_a_broken_import_contract_is_found(copy):
    planted = {
        "layers": ("data/columns.py", "import lora_tune.run"),
        "cycles": ("lora/target_modules.py", "import lora_tune.lora.adapter"),
        "omegaconf": ("models/checkpoint.py", "import omegaconf"),
        "peft": ("evaluation/features.py", "import peft"),
    }
    for file, line in planted.values():
        with (copy / "lora_tune" / file).open("a") as source:
            source.write(f"\n{line}\n")
    done = lint_imports(copy)
    assert done.returncode == 1
    settings = tomllib.loads((copy / "pyproject.toml").read_text())["tool"]["importlinter"]
    names = {contract["id"]: contract["name"] for contract in settings["contracts"]}
    for contract in planted:
        assert f"{names[contract]} BROKEN" in done.stdout
    assert "lora_tune.data is not allowed to import lora_tune.run" in done.stdout


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_and_parameter_lists_are_short(path):
    source = path.read_text(encoding="utf-8")
    assert len(source.splitlines()) <= MAX_LINES
    long = [name for name, count in parameter_counts(source) if count > MAX_PARAMETERS]
    assert not long, f"more than {MAX_PARAMETERS} parameters: {', '.join(long)}"


def parameter_counts(source):
    """Count the parameters of each function, without self and cls."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            given = node.args
            names = [a.arg for a in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
            names += [a.arg for a in (given.vararg, given.kwarg) if a is not None]
            yield node.name, len([name for name in names if name not in ("self", "cls")])


def test_all_kinds_of_parameters_are_counted():
    source = "class C:\n    async def f(self, a, /, b, *c, d=1, **e): ...\n"
    assert list(parameter_counts(source)) == [("f", 5)]


def old_names(path):
    """Find the lines of a file that use a name of 0.1.0."""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        searched = TRANSLATIONS.get(path, RENAMING_TABLE).sub("", line)
        if OLD_NAMES.search(searched):
            yield f"{path.relative_to(ROOT)}:{number}: {line.strip()}"


def test_no_old_name_is_left():
    found = [line for path in TEXTS for line in old_names(path)]
    assert not found, "\n".join(found)
