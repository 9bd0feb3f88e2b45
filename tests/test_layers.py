"""Who may import whom, and who may print: read from the source, so that what is inside functions counts."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("retrieval", "indexer", "segmentation")

#: (importing package, what it must not import): imports look down only.
FLOORS = (
    ("retrieval", "indexer"),
    ("retrieval", "segmentation"),
    ("indexer", "segmentation"),
    ("retrieval.engines", "retrieval.edit"),
    ("retrieval.store", "retrieval.edit"),
    ("retrieval.store", "retrieval.engines"),
)
#: Imported by itself alone, and the only one that prints.
COMMAND = "segmentation.cli"
#: Imported by itself and the command alone.
SERVICE = "segmentation.service"


def modules(root: Path) -> Iterator[tuple[str, bool, ast.Module]]:
    """(dotted name, whether it is a package's ``__init__``, source) of every module of the packages."""
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            is_package = parts[-1] == "__init__"
            name = ".".join(parts[:-1] if is_package else parts)
            yield name, is_package, ast.parse(path.read_text(encoding="utf-8"), str(path))


def imports(name: str, is_package: bool, source: ast.Module) -> Iterator[str]:
    """What a module imports, wherever in it the import stands; ``from a import b`` gives ``a.b``."""
    for node in ast.walk(source):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = name.split(".")[: len(name.split(".")) - node.level + is_package] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and _called(node) in ("import_module", "__import__"):
            first = node.args[0] if node.args else None
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                yield first.value


def is_inside(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def broken_floors(root: Path) -> list[str]:
    """Every import that looks up, as ``importing -> imported``."""
    found = []
    for name, is_package, source in modules(root):
        for imported in imports(name, is_package, source):
            looks_up = any(is_inside(name, low) and is_inside(imported, high) for low, high in FLOORS)
            asks_command = is_inside(imported, COMMAND) and not is_inside(name, COMMAND)
            serves = is_inside(name, SERVICE) or is_inside(name, COMMAND)
            asks_service = is_inside(imported, SERVICE) and not serves
            if looks_up or asks_command or asks_service:
                found.append(f"{name} -> {imported}")
    return found


def prints(root: Path) -> list[str]:
    """Every place outside the command that writes to the terminal, as ``module:line``."""
    return [
        f"{name}:{line}"
        for name, is_package, source in modules(root)
        if not is_inside(name, COMMAND)
        for line in sorted(set(_printing_lines(name, is_package, source)))
    ]


def _printing_lines(name: str, is_package: bool, source: ast.Module) -> Iterator[int]:
    for node in ast.walk(source):
        if isinstance(node, ast.Call) and _called(node) in ("print", "echo", "secho"):
            yield node.lineno
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "sys":
            if node.attr in ("stdout", "stderr", "__stdout__", "__stderr__"):
                yield node.lineno
        elif isinstance(node, ast.Import | ast.ImportFrom):
            wanted = imports(name, is_package, ast.Module([node], []))
            if any(what in ("sys.stdout", "sys.stderr") or is_inside(what, "rich") for what in wanted):
                yield node.lineno


def _called(node: ast.Call) -> str:
    return node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")


def write_tree(root: Path, files: dict[str, str]) -> Path:
    for name, source in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(source)
    return root


def test_imports_look_down() -> None:
    assert broken_floors(ROOT) == []


def test_all_modules_are_read() -> None:
    names = {name for name, _, _ in modules(ROOT)}
    assert {"retrieval", "retrieval.engines.exact", "indexer.recipe", "segmentation.cli.app"} <= names
    assert len(names) > 80


@pytest.mark.parametrize(
    ("file", "source", "found"),
    [
        ("retrieval/a.py", "import indexer.recipe", "retrieval.a -> indexer.recipe"),
        ("retrieval/a.py", "def f():\n    from segmentation import x", "retrieval.a -> segmentation.x"),
        ("retrieval/a.py", "import importlib\nimportlib.import_module('indexer')", "retrieval.a -> indexer"),
        ("indexer/b/c.py", "if TYPE_CHECKING:\n    import segmentation as s", "indexer.b.c -> segmentation"),
        ("retrieval/store/a.py", "from ..edit import compact", "retrieval.store.a -> retrieval.edit.compact"),
        ("retrieval/store/__init__.py", "from ..edit import x", "retrieval.store -> retrieval.edit.x"),
        ("retrieval/store/a.py", "from retrieval import edit", "retrieval.store.a -> retrieval.edit"),
        (
            "retrieval/store/a.py",
            "from retrieval.engines import f",
            "retrieval.store.a -> retrieval.engines.f",
        ),
        ("retrieval/engines/q/a.py", "import retrieval.edit", "retrieval.engines.q.a -> retrieval.edit"),
        ("segmentation/a.py", "from segmentation import cli", "segmentation.a -> segmentation.cli"),
        ("segmentation/a.py", "from .cli.app import main", "segmentation.a -> segmentation.cli.app.main"),
        (
            "segmentation/export/a.py",
            "import segmentation.service",
            "segmentation.export.a -> segmentation.service",
        ),
        (
            "segmentation/service/a.py",
            "from segmentation import cli",
            "segmentation.service.a -> segmentation.cli",
        ),
    ],
)
def test_an_import_that_looks_up_is_found(tmp_path: Path, file: str, source: str, found: str) -> None:
    assert broken_floors(write_tree(tmp_path, {file: source})) == [found]


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("segmentation/a.py", "import indexer, retrieval.edit"),
        ("retrieval/edit/a.py", "from ..store import rows\nfrom retrieval.engines import faiss"),
        ("retrieval/engines/a.py", "from retrieval.store import files, edits\nimport indexers"),
        ("segmentation/cli/a.py", "from segmentation.cli.app import main\nfrom . import console"),
        ("segmentation/cli/a.py", "from segmentation.service import app"),
        ("segmentation/service/routes/a.py", "from segmentation.service.state import Service"),
        ("segmentation/a.py", "'import segmentation.cli'  # from segmentation import cli"),
    ],
)
def test_an_import_that_looks_down_is_not(tmp_path: Path, file: str, source: str) -> None:
    assert broken_floors(write_tree(tmp_path, {file: source})) == []


def test_only_the_command_prints() -> None:
    assert prints(ROOT) == []


@pytest.mark.parametrize(
    "source",
    [
        "def f():\n    print('x')",
        "import sys\nsys.stderr.write('x')",
        "import sys\nlog = open_log(stream=sys.stdout)",
        "import os\nfrom sys import stderr",
        "import typer\ntyper.echo('x')",
        "import os\nfrom rich.console import Console",
    ],
)
def test_printing_is_found(tmp_path: Path, source: str) -> None:
    assert prints(write_tree(tmp_path, {"indexer/a/b.py": source})) == ["indexer.a.b:2"]


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("segmentation/cli/a.py", "import rich, sys\nprint('x', file=sys.stderr)"),
        ("segmentation/a.py", "'print(x)'  # print(x)\nfigure.savefig(fingerprint(x))\nimport richer"),
    ],
)
def test_what_is_no_printing_is_not(tmp_path: Path, file: str, source: str) -> None:
    assert prints(write_tree(tmp_path, {file: source})) == []
