"""The house's order: imports go downward only, and some libraries have one room each."""

import ast

from tests.conftest import ROOT

# As CONTRIBUTING.md lists them, lower rooms first; a room imports from lower floors only.
HOUSE = (ROOT / "CONTRIBUTING.md").read_text().split("```\n")[1]
FLOORS = [line.split(", ") for line in HOUSE.splitlines()]
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
ONLY = {
    "omegaconf": ["recipe_file"],
    # One adapter, several, how one begins, and how one is trained fast.
    "peft": ["adapter", "combining", "starts", "fast.fused_lora"],
    "bitsandbytes": ["precision"],
    "matplotlib": ["drawing"],
    "jinja2": ["chats", "report"],
}


def rooms():
    for path in sorted((ROOT / "lora_tune").rglob("*.py")):
        name = ".".join(path.relative_to(ROOT / "lora_tune").with_suffix("").parts)
        yield name.removesuffix(".__init__") if "." in name else name, path


def imports(tree):
    """Every module that a file imports, but for type checking."""
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == "lora_tune":
            yield from (f"lora_tune.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module


def faults(room, source):
    for module in imports(ast.parse(source)):
        package, _, inner = module.partition(".")
        if package == "lora_tune" and inner and FLOOR[inner] >= FLOOR[room]:
            yield f"{room}.py imports {inner}.py, which is not on a lower floor"
        if package in ONLY and room not in ONLY[package]:
            yield f"{room}.py imports {package}; only {', '.join(ONLY[package])} may"


def test_imports_go_downward():
    found = [fault for room, path in rooms() for fault in faults(room, path.read_text())]
    assert not found, "\n".join(found)


def test_every_room_has_a_floor():
    assert {room for room, _ in rooms()} == set(FLOOR)


def test_an_upward_import_is_found():
    assert list(faults("data", "from lora_tune.run import run\nimport peft")) == [
        "data.py imports run.py, which is not on a lower floor",
        "data.py imports peft; only adapter, combining, starts, fast.fused_lora may",
    ]


def test_files_stay_short():
    lengths = {path.name: len(path.read_text().splitlines()) for _, path in rooms()}
    assert max(lengths.values()) <= 320, lengths
