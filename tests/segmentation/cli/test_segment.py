"""``mycelia segment``: what is written, what is refused, and which settings may change."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from retrieval.errors import ConfigError, MyceliaError
from segmentation.cli.photo_jobs import check_outputs, plan_jobs

from .command import error_of, run


def test_segment_writes_masks_of_the_photos_size(index: Path, data: Path, tmp_path: Path) -> None:
    result = run(
        "segment", index, data / "images", "--out", tmp_path / "m", "--overlay", "--confidence", "--json"
    )
    assert result.exit_code == 0, result.output
    entries: list[dict[str, Any]] = json.loads(result.stdout)
    assert [Path(entry["image"]).name for entry in entries] == ["photo0.png", "photo1.png", "photo2.png"]
    for entry in entries:
        with Image.open(entry["mask"]) as mask:
            assert mask.mode == "P"
            assert mask.size == (70, 48)
            assert set(np.unique(np.asarray(mask))) <= {0, 1}
        with Image.open(entry["confidence"]) as sure:
            assert (sure.mode, sure.size) == ("L", (70, 48))
        with Image.open(entry["overlay"]) as picture:
            assert picture.format == "JPEG"


def test_segment_takes_settings_of_finer_masks(index: Path, data: Path, tmp_path: Path) -> None:
    photo = data / "images" / "photo0.png"
    finer = ("image.shifts=2", "image.flip=true", "transfer.refine=guided", "transfer.refine_radius=4")
    result = run("segment", index, photo, "--out", tmp_path, *finer)
    assert result.exit_code == 0, result.output
    with Image.open(tmp_path / "photo0.png") as mask, Image.open(photo) as original:
        assert mask.size == original.size
    file = tmp_path / "score.json"
    result = run("evaluate", index, data, *finer, "--json", file)
    assert result.exit_code == 0, result.output
    report = json.loads(file.read_text())
    assert report["recipe"]["image"]["shifts"] == 2 and report["recipe"]["image"]["flip"] is True
    assert report["recipe"]["transfer"]["refine"] == "guided"
    assert f"{100 * report['boundary_miou']:.1f}" in result.stdout
    error = error_of(run("segment", index, photo, "--out", tmp_path / "more", "image.fit=pad"))
    assert "image.fit cannot be changed here, only transfer.*, rerank.*, runtime.*, image.shifts" in error


def test_segment_overwrites_only_when_told(index: Path, data: Path, tmp_path: Path) -> None:
    photo = data / "images" / "photo0.png"
    target = tmp_path / "photo0.png"
    target.write_bytes(b"mine")
    assert "--overwrite" in error_of(run("segment", index, photo, "--out", tmp_path))
    assert target.read_bytes() == b"mine"
    assert run("segment", index, photo, "--out", tmp_path, "--overwrite").exit_code == 0
    assert target.read_bytes() != b"mine"


def test_segment_never_replaces_a_photo(index: Path, tmp_path: Path, data: Path) -> None:
    photo = Path(shutil.copy(data / "images" / "photo0.png", tmp_path))
    before = photo.read_bytes()
    assert str(photo) in error_of(run("segment", index, photo, "--out", tmp_path, "--overwrite"))
    assert photo.read_bytes() == before


def test_segment_goes_past_bad_images_only_when_told(index: Path, data: Path, tmp_path: Path) -> None:
    photos = Path(shutil.copytree(data / "images", tmp_path / "photos"))
    (photos / "photo1.png").write_bytes(b"no image")
    assert "photo1.png" in error_of(run("segment", index, photos, "--out", tmp_path / "a"))
    result = run("segment", index, photos, "--out", tmp_path / "b", "--skip-bad")
    assert result.exit_code == 0
    assert sorted(path.name for path in (tmp_path / "b").iterdir()) == ["photo0.png", "photo2.png"]
    assert "photo1.png" in result.stderr
    missing, good = photos / "none.png", photos / "photo0.png"
    assert "none.png" in error_of(run("segment", index, missing, good, "--out", tmp_path / "c"))
    result = run("segment", index, missing, good, "--out", tmp_path / "c", "--skip-bad")
    assert result.exit_code == 0 and "none.png does not exist" in result.stderr
    assert [path.name for path in (tmp_path / "c").iterdir()] == ["photo0.png"]


def test_two_photos_with_one_name_are_refused(tmp_path: Path) -> None:
    for name in ("a/photo.png", "b/photo.jpg"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    jobs = plan_jobs([tmp_path / "a", tmp_path / "b"], tmp_path / "out", overlay=False, confidence=False)
    with pytest.raises(ConfigError, match=r"photo\.png and .*photo\.jpg"):
        check_outputs(jobs, overwrite=True)


def test_subfolders_are_kept(index: Path, data: Path, tmp_path: Path) -> None:
    for place in ("a/photo.png", "b/deep/photo.png", "photo.png"):
        (tmp_path / "in" / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(data / "images" / "photo0.png", tmp_path / "in" / place)
    (tmp_path / "in" / "b" / "film.mov").write_bytes(b"x")
    (tmp_path / "in" / "c").symlink_to(tmp_path / "in" / "a")
    result = run("segment", index, tmp_path / "in", "--out", tmp_path / "out", "--overlay")
    assert result.exit_code == 0, result.output
    assert f"left out of {tmp_path / 'in'}: 1 .mov" in result.stderr
    written = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*")}
    stems = ("a/photo", "b/deep/photo", "c/photo", "photo")
    assert written == {stem + ending for stem in stems for ending in (".png", ".overlay.jpg")}


def test_photos_that_differ_in_their_ending_alone_are_refused(tmp_path: Path) -> None:
    for name in ("photo.png", "photo.jpg"):
        (tmp_path / name).touch()
    jobs = plan_jobs([tmp_path], tmp_path / "out", overlay=False, confidence=False)
    with pytest.raises(ConfigError, match="would both be written to"):
        check_outputs(jobs, overwrite=True)


def test_empty_folder_and_missing_photo_are_named(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.jpg"):
        with pytest.raises(MyceliaError, match=str(path)):
            plan_jobs([path], tmp_path / "out", overlay=False, confidence=False)


def test_a_file_that_reads_like_a_setting_is_a_file(
    index: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    odd = Path("a.b=c.png")
    shutil.copy(data / "images" / "photo0.png", odd)
    assert run("segment", index, odd, "transfer.k=2", "--out", "masks").exit_code == 0
    assert [path.name for path in Path("masks").iterdir()] == [odd.name]
    assert run("segment", index, "transfer.k=2", "--out", "masks").exit_code == 2
    missing = run("segment", index, "photo=1.png", "./runtime.device=cpu.png", "--out", "more")
    assert "there is no image or folder at photo=1.png" in error_of(missing)
