"""Whole images from the command line: build, classify, similar, evaluate, and what is refused."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from retrieval import read_images, read_manifest, write_manifest

from .command import TINY, error_of, run, write_photos

BACKBONE = ("backbone.model=test_vit", "backbone.weights=random", "backbone.block=-1")
SETTINGS = (*BACKBONE, "image.size=[64,64]", "runtime.device=cpu", "objective.kind=kl", "transfer.k=3")
COLORS = {"blue": (30, 60, 220), "red": (220, 40, 30)}


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


def test_search_needs_an_index_of_patches(index: Path, data: Path) -> None:
    result = run("search", index, data / "val" / "red" / "0.png", "--at", "3,3")
    assert "describes whole images" in error_of(result)


def test_classify_and_similar_need_an_index_of_whole_images(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos")
    (tmp_path / "tiny.yaml").write_text(TINY)
    built = run("index", "build", photos, "--out", tmp_path / "p.index", "--config", tmp_path / "tiny.yaml")
    assert built.exit_code == 0, built.output
    for command in ("classify", "similar"):
        result = run(command, tmp_path / "p.index", photos / "images" / "photo0.png")
        assert "index of patches, where one of whole images is needed" in error_of(result)


def test_an_index_of_foreign_code_is_converted_and_not_run(
    index: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "foreign_code.py").write_text("import pathlib; pathlib.Path(__file__ + '.ran').touch()")
    monkeypatch.syspath_prepend(tmp_path)
    received, out = tmp_path / "received.index", tmp_path / "out.index"
    shutil.copytree(index, received)
    manifest = read_manifest(received)
    recipe = {**manifest.recipe, "objective": {**manifest.recipe["objective"], "kind": ["foreign_code:Loss"]}}
    write_manifest(received, replace(manifest, recipe=recipe))
    photo = data / "val" / "red" / "0.png"
    for arguments in (("classify", received, photo), ("similar", received, photo)):
        assert "MYCELIA_OBJECTIVES=foreign_code" in error_of(run(*arguments))
    assert "describes whole images" in error_of(run("segment", received, photo, "--out", tmp_path / "masks"))
    result = run("index", "convert", received, "--to", "exact", "--out", out)
    assert result.exit_code == 0, result.output
    assert "foreign_code" not in sys.modules and not (tmp_path / "foreign_code.py.ran").exists()
    assert "MYCELIA_OBJECTIVES=foreign_code" in error_of(run("classify", out, photo))


def test_info_counts_images(index: Path) -> None:
    result = run("index", "info", index)
    assert "10 images, " in result.stdout
    assert "patches" not in result.stdout


def classes_of(index: Path, photos: Path, tmp_path: Path) -> dict[str, dict[str, float]]:
    """The share of each class by photo, as `mycelia classify` says it."""
    found = tmp_path / f"{index.name}.json"
    result = run("classify", index, photos, "--json", found)
    assert result.exit_code == 0, result.output
    return {entry["image"]: entry["classes"] for entry in json.loads(found.read_text())["images"]}


def test_a_converted_index_gives_the_same_classes(index: Path, data: Path, tmp_path: Path) -> None:
    pytest.importorskip("faiss", reason="faiss is not installed")
    out = tmp_path / "faiss.index"
    result = run("index", "convert", index, "index.faiss.factory=Flat", "--to", "faiss", "--out", out)
    assert result.exit_code == 0, result.output
    assert read_manifest(out).recipe["features"]["level"] == "image"
    ours, theirs = (classes_of(path, data / "val", tmp_path) for path in (index, out))
    assert ours.keys() == theirs.keys() and len(ours) == 4
    for image, shares in ours.items():
        assert theirs[image] == pytest.approx(shares, abs=0.05)
    assert run("index", "verify", out).exit_code == 0
    result = run("similar", out, data / "train" / "red" / "0.png", "--json")
    assert result.exit_code == 0, result.output
    nearest = json.loads(result.stdout)[0]
    assert nearest["image_path"] == str(data / "train" / "red" / "0.png")
    assert Path(nearest["thumbnail"]).is_relative_to(out)


def test_a_removed_image_does_not_vote(index: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "copy.index"
    shutil.copytree(index, out)
    red = [record.id for record in read_images(out) if "red" in record.id]
    assert len(red) == 5
    result = run("index", "remove", out, *red[:4])
    assert result.exit_code == 0, result.output
    assert "removed 4 rows of 4 images, 6 left" in result.stdout.replace("\n", " ")
    result = run("similar", out, data / "train" / "red" / "0.png", "--count", 10, "--json")
    listed = [match["image_id"] for match in json.loads(result.stdout)]
    assert len(listed) == 6 and not set(red[:4]) & set(listed) and red[4] in listed
    assert "6 images, " in run("index", "info", out).stdout
    result = run("evaluate", out, data, "--split", "train", "--json", tmp_path / "report.json")
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "report.json").read_text())["in_memory"] == 6


def test_a_compacted_index_classifies(index: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "small.index"
    result = run("index", "compact", index, "--keep", "0.4", "--out", out)
    assert result.exit_code == 0, result.output
    manifest = read_manifest(out)
    assert manifest.live_rows == 4
    assert "4 images, merged from 10, " in run("index", "info", out).stdout
    for image, shares in classes_of(out, data / "val", tmp_path).items():
        assert max(shares, key=lambda name: shares[name]) == Path(image).parent.name
    result = run("similar", out, data / "val" / "red" / "0.png", "--json")
    assert result.exit_code == 0, result.output
    assert len(json.loads(result.stdout)) == 4
    assert "compacted index" in error_of(run("similar", out, "--duplicates"))
    assert "compacted index" in error_of(run("evaluate", out, data, "--split", "train", "--leave-out"))
