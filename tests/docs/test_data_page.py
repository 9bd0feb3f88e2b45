"""The walks of docs/data.md run as they stand there, on data made here."""

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

from indexer.datasets import load_dataset
from segmentation.cli import app

ROAD, CAR = (250, 50, 83), (61, 61, 245)


@pytest.fixture
def page(root: Path) -> str:
    return (root / "docs" / "data.md").read_text(encoding="utf-8")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_recipes: Path) -> Path:
    """An empty folder, the current one."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def section(page: str, title: str) -> str:
    """What stands below a heading of the second level, up to the next."""
    return re.split(r"^## ", page.split(f"\n## {title}\n")[1], flags=re.MULTILINE)[0]


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def run_commands(text: str) -> list[list[str]]:
    """Run every ``mycelia`` line of the blocks; ``> FILE`` takes the results, as in a shell."""
    done = []
    for line in "".join(blocks(text, "sh")).splitlines():
        words = shlex.split(line, comments=True)
        if not words:
            continue
        target = words.pop() if ">" in words else None
        arguments = [word for word in words[1:] if word != ">"]
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, (line, result.output, result.exception)
        if target is not None:
            Path(target).write_text(result.stdout, encoding="utf-8")
        done.append(arguments)
    return done


def scene(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A photo (80, 120, 3) with a bright and a blue part, and its mask of 0, 1 and 2."""
    mask = np.zeros((80, 120), dtype=np.uint8)
    mask[40:, :60], mask[40:, 60:] = 1, 2
    photo = np.random.default_rng(seed).integers(0, 60, (80, 120, 3), dtype=np.uint8)
    photo[mask == 1] += 150
    photo[mask == 2, 2] += 190
    return photo, mask


def write(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def write_cvat(root: Path, subsets: dict[str, list[str]]) -> Path:
    """What CVAT exports as "Segmentation mask 1.1"."""
    colors = np.array([(0, 0, 0), ROAD, CAR], dtype=np.uint8)
    for number, id in enumerate(id for ids in subsets.values() for id in ids):
        photo, mask = scene(number)
        write(root / "JPEGImages" / f"{id}.jpg", photo)
        write(root / "SegmentationClass" / f"{id}.png", colors[mask])
        write(root / "SegmentationObject" / f"{id}.png", colors[mask])
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    for name, ids in subsets.items():
        (lists / f"{name}.txt").write_text("".join(f"{id}\n" for id in ids))
    lines = ["# label:color_rgb:parts:actions", "background:0,0,0::"]
    lines += [f"{name}:{','.join(map(str, color))}::" for name, color in (("road", ROAD), ("car", CAR))]
    (root / "labelmap.txt").write_text("\n".join(lines) + "\n")
    return root


def test_from_cvat_to_a_score(page: str, here: Path) -> None:
    root = write_cvat(here / "my-export", {"Train": ["a", "b", "c"], "Validation": ["d", "e"]})
    assert load_dataset(root, split="Train").classes.names == ("background", "road", "car")
    commands = run_commands(section(page, "From a CVAT export to a score"))
    assert len(commands) <= 3
    score = json.loads((here / "score.json").read_text())
    assert "road" in json.dumps(score) and "miou" in json.dumps(score)
    assert (here / "report" / "index.html").is_file()


def test_from_black_and_white_to_sorted_photos(page: str, here: Path) -> None:
    (example, _) = blocks(section(page, "Naming classes"), "json")
    for number in range(3):
        write_part(here / "parts", f"{number:04}", number, 10 + 10 * number)
    (here / "parts" / "classes.json").write_text(example)
    for number in range(3):
        photo, _ = part(10 + number, 30 * number)
        write(here / "line-7" / f"{number}.png", photo)
    text = section(page, "From black and white masks to photos sorted by defect")
    commands = run_commands(text)
    assert [words[0] for words in commands] == ["index", "segment"]
    (code,) = blocks(text, "python")
    exec(compile(code, "data.md", "exec"), {})
    copies = sorted(path.name for path in (here / "sorted").iterdir())
    assert len(copies) == 3
    entries = {Path(entry["image"]).name: entry for entry in json.loads((here / "found.json").read_text())}
    areas = []
    for rank, name in enumerate(copies, start=1):
        found = re.fullmatch(r"(\d{4})-(\d+)px-(\d\.png)", name)
        assert found is not None and int(found[1]) == rank
        with Image.open(entries[found[3]]["mask"]) as mask:
            assert int(found[2]) == pytest.approx(int((np.array(mask) == 255).sum()), abs=1)
        areas.append(int(found[2]))
    assert areas == sorted(areas, reverse=True)


def part(seed: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """A dark part (80, 120, 3) with a bright stripe so many pixels wide, and its mask of 0 and 255."""
    mask = np.zeros((80, 120), dtype=np.uint8)
    mask[:, 20 : 20 + width] = 255
    photo = np.random.default_rng(seed).integers(0, 60, (80, 120, 3), dtype=np.uint8)
    photo[mask == 255] += 180
    return photo, mask


def write_part(root: Path, id: str, seed: int, width: int) -> None:
    photo, mask = part(seed, width)
    write(root / "images" / f"{id}.png", photo)
    write(root / "masks" / f"{id}.png", mask)


def test_the_forms_of_classes_are_read(page: str, here: Path) -> None:
    for number, example in enumerate(blocks(section(page, "Naming classes"), "json")):
        root = here / f"data-{number}"
        write(root / "images" / "a.png", np.zeros((8, 8, 3), dtype=np.uint8))
        write(root / "masks" / "a.png", np.zeros((8, 8), dtype=np.uint8))
        (root / "classes.json").write_text(example)
        expected: dict[str, Any] = json.loads(example)
        names = [entry["name"] for entry in expected.get("classes", [])] or expected["names"]
        assert list(load_dataset(root).classes.names) == names


def test_classes_and_inspect_run(page: str, here: Path) -> None:
    for split in ("train", "val"):
        for number in range(2):
            photo, mask = scene(number)
            write(here / "my-data" / "images" / split / f"{number}.png", photo)
            write(here / "my-data" / "masks" / split / f"{number}.png", mask)
    run_commands(section(page, "Naming classes"))
    assert (here / "my-data" / "classes.json").is_file()
    run_commands(section(page, "Look before you build"))
    assert (here / "sheet.png").is_file()
    assert json.loads((here / "look.json").read_text())["images"] == 2
