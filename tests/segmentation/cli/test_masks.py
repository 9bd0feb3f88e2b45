"""What the command says of masks, and how it takes images without one and classes that nobody named."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from .command import error_of, run, write_photos


@pytest.fixture
def found(tmp_path: Path, tiny: Path) -> tuple[Path, Path]:
    """A data set whose classes 0 and 1 nobody named, and its index."""
    data = write_photos(tmp_path / "found", count=4)
    (data / "classes.json").unlink()
    result = run("index", "build", data, "--config", tiny, "--out", tmp_path / "found.index")
    assert result.exit_code == 0, result.output
    return data, tmp_path / "found.index"


def val(folder: Path, mask: np.ndarray | None) -> Path:
    """A data set with other masks, or none but that of the first image."""
    write_photos(folder, count=2)
    (folder / "classes.json").unlink()
    for path in sorted((folder / "masks").iterdir())[1 if mask is None else 0 :]:
        path.unlink() if mask is None else Image.fromarray(mask.astype(np.uint8)).save(path)
    return folder


def scores(index: Path, data: Path, *options: str) -> dict[str, float]:
    out = data / "report.json"
    result = run("evaluate", index, data, "--json", out, *options)
    assert result.exit_code == 0, result.output
    report: dict[str, dict[str, float]] = json.loads(out.read_text())
    return report["per_class"]


def test_build_says_shares(data: Path, tiny: Path, tmp_path: Path) -> None:
    result = run("index", "build", data, "--config", tiny, "--out", tmp_path / "x")
    assert "pixels (from 3 masks): dark 50.0 %, bright 50.0 %, unlabelled 0 %" in result.stderr


def test_background_alone_is_scored(found: tuple[Path, Path], tmp_path: Path) -> None:
    good = val(tmp_path / "val", np.zeros((48, 70)))
    assert scores(found[1], good, "--report", str(tmp_path / "page"))["class_0"] > 0
    error = error_of(run("index", "build", good, "--out", tmp_path / "good.index"))
    assert "a memory of one class finds nothing else" in error


def test_named_classes_of_the_index_are_those_of_found_ids(index: Path, tmp_path: Path) -> None:
    good = val(tmp_path / "val", np.zeros((48, 70)))
    assert set(scores(index, good)) == {"dark", "bright"}


def test_found_class_that_the_index_lacks(found: tuple[Path, Path], tmp_path: Path) -> None:
    error = error_of(run("evaluate", found[1], val(tmp_path / "val", np.full((48, 70), 5))))
    assert "hold the class id 5, which the index lacks (it has 0 (class_0), 1 (class_1))" in error


def test_images_without_a_mask(found: tuple[Path, Path], tiny: Path, tmp_path: Path) -> None:
    data = val(tmp_path / "val", None)
    for command in (["evaluate", found[1], data], ["index", "build", data, "--out", tmp_path / "x"]):
        assert "--unmasked background or skip" in error_of(run(*command))
    assert set(scores(found[1], data, "--unmasked", "background")) == {"class_0", "class_1"}
    for word, images in (("background", 2), ("skip", 1)):
        out = tmp_path / word
        result = run("index", "build", data, "--config", tiny, "--out", out, "--unmasked", word)
        assert f" of {images} image" in result.stdout, result.output
