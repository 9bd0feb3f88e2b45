"""What the pages name is there: links, commands and their options, recipes, make targets, files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.core import TyperGroup

from segmentation.cli import app

ROOT = Path(__file__).parent.parent.parent
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").glob("*.md"),
        ROOT / "benchmarks" / "results" / "README.md",
        ROOT / "compose.yaml",
        *(ROOT / "configs").glob("*.yaml"),
    ]
)
#: Folders of the checkout whose files a page may name.
TOP = "retrieval|indexer|segmentation|configs|benchmarks|docs|tests"


def commands(text: str) -> Iterator[list[str]]:
    """The words of every ``mycelia ...`` in code or in a comment of a recipe, lines that go on joined."""
    text = re.sub(r"\\\n[#\s]*", "", text)
    inline = re.findall(r"`mycelia ([^`\n]+)`", text)
    lines = re.findall(r"^(?:#? *)mycelia ([^`\n]+)$", text, re.MULTILINE)
    for command in (*inline, *lines):
        yield re.split(r"\s#\s|\s{2,}", command)[0].split()


def unknown_words(words: list[str]) -> list[str]:
    """The subcommand or the options of a command line that the command does not have."""
    here = typer.main.get_command(app)
    rest = list(words)
    while isinstance(here, TyperGroup) and rest and not rest[0].startswith("-"):
        name = rest.pop(0)
        if name not in here.commands:
            return [name]
        here = here.commands[name]
    options = {option for parameter in here.params for option in parameter.opts}
    asked = [word.partition("=")[0] for word in rest if word.startswith("-")]
    return [option for option in asked if option not in options | {"--help"}]


def dead_links(page: Path) -> list[str]:
    """Relative links of a Markdown page that lead nowhere."""
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    files = [link.partition("#")[0] for link in links if "://" not in link]
    return [file for file in files if file and not (page.parent / file).exists()]


def missing_paths(text: str, root: Path = ROOT) -> list[str]:
    """Files and folders that are named in backticks, from a package or folder of the checkout on."""
    named = re.findall(rf"`((?:{TOP})/[\w./*-]*)`", text)
    return [name for name in named if not any(root.glob(name.rstrip("/")))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_exist(page: Path) -> None:
    found = {" ".join(words): unknown_words(words) for words in commands(page.read_text(encoding="utf-8"))}
    assert {line: words for line, words in found.items() if words} == {}


@pytest.mark.parametrize(
    "page", [p for p in PAGES if p.suffix == ".md"], ids=lambda p: str(p.relative_to(ROOT))
)
def test_links_lead_somewhere(page: Path) -> None:
    assert dead_links(page) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_named_files_exist(page: Path) -> None:
    assert missing_paths(page.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "page", [p for p in PAGES if p.suffix == ".md"], ids=lambda p: str(p.relative_to(ROOT))
)
def test_make_targets_exist(page: Path) -> None:
    asked = set(re.findall(r"^make ([\w-]+)|`make ([\w-]+)", page.read_text(encoding="utf-8"), re.MULTILINE))
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert {"".join(names) for names in asked} <= set(targets)


def test_recipes_and_compose_name_commands_that_are_checked() -> None:
    found = [" ".join(words) for words in commands((ROOT / "configs" / "qdrant-cluster.yaml").read_text())]
    assert any(line.startswith("index build") and "--shard" in line for line in found)


def test_what_is_not_there_is_found(tmp_path: Path) -> None:
    text = "`mycelia index bild X` and\n\n    mycelia segment my.index \\\n      --out x --overlays  # why\n"
    assert [unknown_words(words) for words in commands(text)] == [["bild"], ["--overlays"]]
    assert unknown_words(["index", "build", "DATA", "--out", "my.index", "transfer.k=3"]) == []
    page = tmp_path / "page.md"
    page.write_text("[here](page.md#top) [there](gone.md) [far](https://example.org/x)")
    assert dead_links(page) == ["gone.md"]
    assert missing_paths("`retrieval/gone.py` `configs/voc-*.yaml` `indexer/` `docs/none-*`") == [
        "retrieval/gone.py",
        "docs/none-*",
    ]
