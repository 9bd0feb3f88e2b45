"""The script that sets our scores beside the published ones, on a tiny VOC with a random ViT."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import reproduce

TINY = (
    "backbone.model=test_vit",
    "backbone.weights=random",
    "image.size=[64,64]",
    "objective.head_width=8",
    "objective.support_size=16",
    "runtime.device=cpu",
    "index.engine=exact",
)


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """VOCdevkit/VOC2012 with three images of trainaug and two of val, background and aeroplane."""
    root = tmp_path / "VOCdevkit" / "VOC2012"
    for folder in ("JPEGImages", "SegmentationClass", "SegmentationClassAug", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    for number in range(5):
        mask = np.zeros((50, 70), np.uint8)
        mask[10:40, 10 + 5 * number :] = 1
        mask[9] = 255
        noise = np.random.default_rng(number).integers(0, 40, (50, 70, 3))
        photo = (noise + 150 * (mask == 1)[:, :, None]).astype(np.uint8)
        Image.fromarray(photo).save(root / "JPEGImages" / f"p{number}.jpg")
        for folder in ("SegmentationClass", "SegmentationClassAug"):
            Image.fromarray(mask).save(root / folder / f"p{number}.png")
    lists = root / "ImageSets" / "Segmentation"
    (lists / "trainaug.txt").write_text("p0\np1\np2\n")
    (lists / "val.txt").write_text("p3\np4\n")
    return root


def run(monkeypatch: pytest.MonkeyPatch, *words: object) -> None:
    monkeypatch.setattr(sys, "argv", ["reproduce.py", *map(str, words)])
    reproduce.main()


def test_a_table_of_features_sizes_and_seeds(
    voc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["--voc", voc, "--sizes", 12, 102_400, "--recipes", "voc-dinov2-s14", *TINY]
    words += ["--work", tmp_path / "work", "--out", tmp_path / "out", "--json", tmp_path / "rows.json"]
    run(monkeypatch, *words)
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert [(row["features"], row["bank"]) for row in rows] == [
        (kind, size) for size in (12, 102_400) for kind in ("embeddings", "fungi")
    ]
    assert rows[0]["rows"] == 12, "two patches of each of three images in two epochs"
    assert [row["published"] for row in rows] == ["", "", "70.2", ""]
    assert {row["difference"] for row in rows} == {""}, "other images and weights are not compared"
    text = (tmp_path / "out" / "reproduce.md").read_text()
    assert "a piece of 5 images" in text and "`backbone.weights=random`" in text
    assert "not those of the published numbers" in text

    def never(*_: object, **__: object) -> None:
        raise AssertionError("what is done is not done again")

    monkeypatch.setattr(reproduce, "build_index", never)
    monkeypatch.setattr(reproduce, "evaluate", never)
    run(monkeypatch, *words)
    assert json.loads((tmp_path / "rows.json").read_text()) == rows
    with pytest.raises(AssertionError, match="not done again"):
        run(monkeypatch, *words, "--seeds", 1)


def test_what_was_measured_as_published_is_compared() -> None:
    plain, fungi = reproduce.cells(["voc-dino-s16"], [1_024_000], [0], [])
    assert plain.recipe.bank.protocol == "hummingbird" and plain.recipe.bank.epochs == 2
    assert plain.recipe.bank.max_patches == 1_024_000
    found = {"rows": 9, "hummingbird": 44.0, "standard": 40.0, "build_s": 1.0, "evaluate_s": 1.0}
    row = reproduce.row_of(plain, found, comparable=True)
    assert (row["published"], row["difference"]) == ("43.1", "+0.9")
    assert reproduce.row_of(fungi, found, comparable=True)["published"] == ""


def test_faults_are_one_sentence(voc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match=r"^error: the command line: unknown key image\.sise"):
        run(monkeypatch, "--voc", voc, "--work", tmp_path / "work", "image.sise=[64,64]")
    with pytest.raises(SystemExit, match=r"^error: .*nowhere"):
        run(monkeypatch, "--voc", tmp_path / "nowhere", "--work", tmp_path / "work")
