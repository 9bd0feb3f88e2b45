"""Calibration, priors, regions and image-level decisions, as the command gives them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from retrieval import read_manifest
from retrieval.folder import IndexFolder

from .command import error_of, run


@pytest.fixture
def copied(index: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(index, tmp_path / "copied.index"))


def entries_of(*arguments: object) -> list[dict[str, Any]]:
    result = run("segment", *arguments, "--json")
    assert result.exit_code == 0, result.output
    entries: list[dict[str, Any]] = json.loads(result.stdout)
    return entries


def test_a_calibration_is_stored_and_used(copied: Path, data: Path, tmp_path: Path) -> None:
    photo, before = data / "images" / "photo0.png", read_manifest(copied)
    plain = entries_of(copied, photo, "--out", tmp_path / "a")
    result = run("evaluate", copied, data, "--leave-out", "--calibrate")
    assert result.exit_code == 0, result.output
    assert "expected calibration error" in result.stdout and "transfer.calibration=" in result.stdout
    after = read_manifest(copied)
    tau = after.recipe["transfer"]["calibration"]
    assert tau > 0 and f"transfer.calibration={tau:.4g}" in result.stdout
    assert after.generation == before.generation + 1 and after.live_rows == before.live_rows
    rest = {**after.recipe, "transfer": {**after.recipe["transfer"], "calibration": None}}
    assert rest == before.recipe
    assert IndexFolder.open(copied).verify() == []
    sure = entries_of(copied, photo, "--out", tmp_path / "b")
    assert sure[0]["pixels"] == plain[0]["pixels"]
    assert sure[0]["mean_confidence"] != plain[0]["mean_confidence"]
    off = entries_of(copied, photo, "--out", tmp_path / "c", "transfer.calibration=null")
    assert off[0]["mean_confidence"] == plain[0]["mean_confidence"]


def test_a_calibration_of_other_settings_is_said_and_not_stored(copied: Path, data: Path) -> None:
    before = read_manifest(copied)
    result = run("evaluate", copied, data, "--leave-out", "--calibrate", "transfer.k=2")
    assert result.exit_code == 0 and "give transfer.calibration=" in result.stderr
    assert read_manifest(copied) == before


def test_a_memory_does_not_calibrate_itself(copied: Path, data: Path) -> None:
    assert "add --leave-out" in error_of(run("evaluate", copied, data, "--calibrate"))


def test_regions_are_listed(index: Path, data: Path, tmp_path: Path) -> None:
    photo = data / "images" / "photo0.png"
    (entry,) = entries_of(index, photo, "--out", tmp_path / "a")
    ids = np.asarray(Image.open(entry["mask"]))
    for name, column in (("dark", 0), ("bright", 1)):
        regions = [region for region in entry["instances"] if region["class"] == name]
        assert sum(region["area"] for region in regions) == (ids == column).sum()
        for region in regions:
            left, top, width, height = region["box"]
            assert (ids[top : top + height, left : left + width] == column).sum() >= region["area"]
            assert 0 <= region["mean_confidence"] <= 1
    most = max(region["area"] for region in entry["instances"])
    (few,) = entries_of(index, photo, "--out", tmp_path / "b", "--min-area", most)
    assert {region["area"] for region in few["instances"]} == {most}
    (none,) = entries_of(index, photo, "--out", tmp_path / "e", "--min-area", most + 1)
    assert none["instances"] == []
    (one,) = entries_of(index, photo, "--out", tmp_path / "c", "--instances", "bright")
    assert {region["class"] for region in one["instances"]} == {"bright"}
    error = error_of(run("segment", index, photo, "--out", tmp_path / "d", "--instances", "bright"))
    assert "add --json" in error
    error = error_of(run("segment", index, photo, "--out", tmp_path / "d", "--instances", "rust", "--json"))
    assert "no class 'rust' in the index; its classes are dark, bright" in error


def test_images_are_called_defective_at_a_threshold(index: Path, data: Path, tmp_path: Path) -> None:
    photo, file = data / "images" / "photo0.png", tmp_path / "score.json"
    result = run("evaluate", index, data, "--leave-out", "--defect", "bright=0.25", "--json", file)
    assert result.exit_code == 0, result.output
    assert "image-level AUROC of bright" in result.stdout and "at bright=0.25" in result.stdout
    scores = {image["id"]: image["score"] for image in json.loads(file.read_text())["defect"]["images"]}
    assert len(scores) == 3 and all(0 <= score <= 1 for score in scores.values())
    (entry,) = entries_of(index, photo, "--out", tmp_path / "a", "--threshold", "bright=0")
    (found,) = entry["defects"]
    assert entry["defective"] is True and found["class"] == "bright" and found["defective"] is True
    higher = f"bright={min(1.0, found['score'] + 0.001)}"
    result = run("segment", index, photo, "--out", tmp_path / "b", "--threshold", higher)
    expected = 1 if found["score"] >= 1 else 0
    assert f"defective: {expected} of 1" in result.stderr
    for bad in ("bright", "bright=2", "bright=x", "=0.3"):
        error = error_of(run("segment", index, photo, "--out", tmp_path / "c", "--threshold", bad))
        assert "expected a class and a share in 0..1" in error
    assert "no class 'rust'" in error_of(run("evaluate", index, data, "--defect", "rust"))


def test_an_unknown_class_of_a_prior_is_one_sentence(index: Path, data: Path, tmp_path: Path) -> None:
    photo = data / "images" / "photo0.png"
    error = error_of(run("segment", index, photo, "--out", tmp_path, "transfer.prior={rust: 0.3}"))
    assert "names the class 'rust', but the index has dark, bright" in error
    (entry,) = entries_of(index, photo, "--out", tmp_path, "transfer.prior={bright: 1.0}")
    assert set(entry["classes"]) == {"bright"}


def test_a_threshold_is_not_found_on_shares_that_then_change(index: Path, data: Path) -> None:
    both = run("evaluate", index, data, "--leave-out", "--calibrate", "--defect", "bright")
    assert "run it first, and --defect then" in error_of(both)


def test_what_the_memory_does_not_know_is_left_blank(
    index: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MYCELIA_CACHE", str(tmp_path / "cache"))
    photo = tmp_path / "noise.png"
    noise = np.random.default_rng(0).integers(0, 255, size=(48, 70, 3)).astype(np.uint8)
    Image.fromarray(noise).save(photo)
    (entry,) = entries_of(index, photo, "--out", tmp_path / "a", "transfer.unknown=0.99")
    with Image.open(entry["mask"]) as file:
        blank = np.asarray(file) == 255
    assert 0 < blank.mean() == pytest.approx(entry["blank"], abs=1e-6)
    assert sum(entry["pixels"].values()) == int((~blank).sum())
    (entry,) = entries_of(index, photo, "--out", tmp_path / "b")
    assert entry["blank"] == 0
    result = run("evaluate", index, data, "--leave-out", "transfer.unknown=0.5")
    assert result.exit_code == 0 and "transfer.unknown=0.5 leaves" in result.stdout
    assert "transfer.unknown" in error_of(
        run("segment", index, photo, "--out", tmp_path / "c", "transfer.unknown=2")
    )
