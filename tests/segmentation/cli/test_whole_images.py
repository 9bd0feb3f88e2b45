"""Whole images from the command line: build, classify, similar, evaluate, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from retrieval import read_images, read_manifest
from segmentation.cli import app

BACKBONE = ("backbone.model=test_vit", "backbone.weights=random", "backbone.block=-1")
SETTINGS = (*BACKBONE, "image.size=[64,64]", "runtime.device=cpu", "objective.kind=kl", "transfer.k=3")
COLORS = {"blue": (30, 60, 220), "red": (220, 40, 30)}


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, random = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for split, count in (("train", 5), ("val", 2)):
        for name, color in COLORS.items():
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                noise = random.integers(-25, 26, (50, 70, 3))
                pixels = np.clip(np.array(color) + noise, 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / split / name / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    out = tmp_path_factory.mktemp("index") / "colors.index"
    result = run("index", "build", data, "--split", "train", "--out", out, *SETTINGS)
    assert result.exit_code == 0, result.output
    assert f"next: mycelia classify {out} PHOTO" in result.stderr.replace("\n", "")
    return out


def test_an_index_has_a_row_an_image(index: Path) -> None:
    manifest = read_manifest(index)
    assert manifest.recipe["features"]["level"] == "image"
    assert (manifest.live_rows, len(read_images(index))) == (10, 10)
    assert all(record.patches == 1 for record in read_images(index))
    assert run("index", "verify", index).exit_code == 0
    assert run("index", "info", index).exit_code == 0


def test_classify_and_similar(index: Path, data: Path, tmp_path: Path) -> None:
    found = tmp_path / "found.json"
    result = run("classify", index, data / "val", "--json", found)
    assert result.exit_code == 0, result.output
    entries = json.loads(found.read_text())["images"]
    assert len(entries) == 4
    assert all(entry["class"] == Path(entry["image"]).parent.name for entry in entries)
    picture = tmp_path / "sheet.png"
    result = run("similar", index, data / "val" / "red" / "0.png", "--count", 3, "--picture", picture)
    assert result.exit_code == 0, result.output
    with Image.open(picture) as sheet:
        assert sheet.width > 400


def test_evaluate(index: Path, data: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    picture = tmp_path / "pictures" / "confusion.png"
    result = run("evaluate", index, data, "--split", "val", "--json", report, "--picture", picture)
    assert result.exit_code == 0, result.output
    with Image.open(picture) as drawn:
        assert drawn.format == "PNG"
    assert "top-1 100.0" in result.stdout
    assert json.loads(report.read_text())["top1"] == 1.0
    result = run(
        "evaluate", index, data, "--split", "train", "--leave-out", "--report", tmp_path / "mistakes"
    )
    assert result.exit_code == 0, result.output
    assert "each was scored without itself" in result.stderr.replace("\n", " ")
    assert (tmp_path / "mistakes" / "confusion.png").is_file()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    result = run("evaluate", index, data, "--split", "val", "--report", tmp_path / "full")
    assert result.exit_code == 1
    assert (tmp_path / "full" / "mine.txt").read_text() == "mine"


def test_masks_are_images_of_several_classes(tmp_path: Path) -> None:
    classes = [{"id": i, "name": name, "color": [i, i, i]} for i, name in enumerate(("dark", "bright"))]
    for kind in ("images", "masks"):
        (tmp_path / "data" / kind).mkdir(parents=True)
    (tmp_path / "data" / "classes.json").write_text(json.dumps({"classes": classes}))
    for number in range(3):
        mask = np.zeros((48, 70), np.uint8)
        mask[:, 35:] = number > 0
        Image.fromarray((mask * 150)[..., None].repeat(3, 2)).save(tmp_path / f"data/images/{number}.png")
        Image.fromarray(mask).save(tmp_path / f"data/masks/{number}.png")
    out = tmp_path / "several.index"
    result = run("index", "build", tmp_path / "data", "--out", out, "features.level=image", *SETTINGS)
    assert result.exit_code == 0, result.output
    result = run("evaluate", out, tmp_path / "data", "--leave-out")
    assert result.exit_code == 0, result.output
    assert "mean average precision" in result.stdout
    (tmp_path / "two.txt").write_text("1\n2\n")
    picture = tmp_path / "none.png"
    result = run("evaluate", out, tmp_path / "data", "--subset", tmp_path / "two.txt", "--picture", picture)
    assert result.exit_code == 0, result.output
    assert "takes images of one class each" in result.stderr and not picture.exists()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("features.level=patch", "needs masks"),
        ("bank.epochs=2", "of whole images it has to be 1"),
        ("rerank.candidates=60", "orders patches"),
    ],
)
def test_what_whole_images_have_not_is_refused(
    setting: str, message: str, data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "new.index"
    level = () if setting.startswith("features.level") else ("features.level=image",)
    result = run("index", "build", data, "--split", "train", "--out", out, *SETTINGS, *level, setting)
    assert result.exit_code == 1
    assert message in result.stderr.replace("\n", " ")
    assert not out.exists()


def test_an_index_of_images_gives_no_masks(index: Path, data: Path, tmp_path: Path) -> None:
    result = run("segment", index, data / "val" / "red" / "0.png", "--out", tmp_path / "masks")
    assert result.exit_code == 1
    assert "use `mycelia classify`" in result.stderr.replace("\n", " ")
