"""The README is short, and what it tells to run runs and gives the files that it promises."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from segmentation.cli import app


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of a language in a Markdown page."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def walk(text: str) -> list[list[str]]:
    """The arguments of every ``mycelia`` line in the README's blocks, in order."""
    lines = "".join(blocks(text, "sh")).replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("mycelia ")]


@pytest.fixture
def readme(root: Path) -> str:
    return (root / "README.md").read_text(encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, readme: str, tiny_recipes: Path) -> Path:
    """The folder that the README describes, its photos among it; it is the current one."""
    here = tmp_path / "here"
    for number, id in enumerate(("train/a", "train/b", "val/c")):
        photo, mask = scene(number)
        write(here / "my-data" / "images" / f"{id}.jpg", photo)
        write(here / "my-data" / "masks" / f"{id}.png", mask)
    for number, name in enumerate(("photo.jpg", "holiday/one.jpg", "holiday/two.jpg"), start=3):
        write(here / name, scene(number)[0])
    (here / "my-data" / "classes.json").write_text(json.dumps(example_of_classes(readme)))
    monkeypatch.chdir(here)
    return here


def scene(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A photo (160, 320, 3) and its mask: the one class of the example, and ignored pixels."""
    generator = np.random.default_rng(seed)
    mask = np.zeros((160, 320), dtype=np.uint8)
    mask[:, 250:] = 255
    return generator.integers(0, 255, (160, 320, 3), dtype=np.uint8), mask


def write(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def example_of_classes(readme: str) -> dict[str, Any]:
    """The content of ``classes.json`` as the README shows it."""
    found = re.search(r"classes\.json +optional: (\{.*\})", readme)
    assert found is not None
    example: dict[str, Any] = json.loads(found[1])
    return example


def test_it_is_short(readme: str) -> None:
    assert len(readme.splitlines()) <= 120


def test_the_two_commands_stand_near_the_top(readme: str) -> None:
    top = "\n".join(readme.splitlines()[:15])
    assert "\nmake demo " in top and "\nmake test " in top


def test_its_commands_run(readme: str, folder: Path) -> None:
    commands = walk(readme)
    assert [command[0] for command in commands] == [
        "index",
        "segment",
        "search",
        "evaluate",
        "assist",
        "index",
    ]
    for command in commands:
        result = CliRunner().invoke(app, command)
        assert result.exit_code == 0, (command, result.output, result.exception)
    promised = ["my.index/manifest.json", "why.png", "score.json", "report/index.html"]
    promised += [f"masks/{name}" for name in ("photo.png", "photo.overlay.jpg", "one.png", "two.overlay.jpg")]
    promised += [f"proposals/{name}" for name in ("one.png", "next.html", "memory.index/manifest.json")]
    assert [name for name in promised if not (folder / name).is_file()] == []
    with Image.open(folder / "masks" / "photo.png") as mask:
        assert mask.size == (320, 160)


def test_its_python_runs(readme: str, folder: Path) -> None:
    (block,) = blocks(readme, "python")
    names: dict[str, Any] = {}
    exec(compile(block, "README.md", "exec"), names)
    assert (folder / "other.index" / "manifest.json").is_file()
    result, report = names["result"], names["report"]
    assert result.mask.shape == result.confidence.shape == (160, 320)
    assert result.confidence.dtype == np.float32
    assert report.images == 1
