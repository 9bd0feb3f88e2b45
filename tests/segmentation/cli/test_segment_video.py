"""``mycelia segment`` of videos."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from tests.videos import halves, write_video

from .command import error_of, run


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_video(tmp_path / "clip.mp4", halves(6))


def masks_of(folder: Path) -> list[npt.NDArray[Any]]:
    found = []
    for path in sorted(folder.glob("*.png")):
        with Image.open(path) as image:
            assert image.mode == "P"
            found.append(np.array(image))
    return found


def names_of(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_video_gives_a_mask_for_each_frame(index: Path, clip: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "m"
    photo = data / "images" / "photo0.png"
    result = run("segment", index, clip, photo, "--out", out, "--overlay", "--confidence", "--json")
    assert result.exit_code == 0, result.output
    assert "segmented 1 image and 6 frames into" in result.stderr
    entries = json.loads(result.stdout)
    assert [entry.get("frame") for entry in entries] == [None, 0, 1, 2, 3, 4, 5]
    assert entries[3]["seconds"] == 0.2 and entries[3]["mask"] == str(out / "clip" / "000002.png")
    assert names_of(out) == [
        "clip",
        "clip.overlay.mp4",
        "photo0.confidence.png",
        "photo0.overlay.jpg",
        "photo0.png",
    ]
    masks = sorted((out / "clip").glob("??????.png"))
    assert len(masks) == 6 and len(list((out / "clip").glob("*.confidence.png"))) == 6
    with Image.open(masks[0]) as mask:
        assert mask.mode == "P" and mask.size == (70, 48) and set(np.unique(np.asarray(mask))) <= {0, 1}
    video = cv2.VideoCapture(str(out / "clip.overlay.mp4"), cv2.CAP_FFMPEG)
    assert (video.get(cv2.CAP_PROP_FRAME_COUNT), video.get(cv2.CAP_PROP_FPS)) == (6, 10)


def test_masks_are_those_of_the_frames_as_photos(index: Path, tmp_path: Path) -> None:
    frames = halves(3)
    clip = write_video(tmp_path / "clip.avi", frames, codec="FFV1")
    from indexer.images.video import VideoReader

    (tmp_path / "photos").mkdir()
    with VideoReader(clip) as reader:
        for frame in reader.frames():
            Image.fromarray(frame.pixels).save(tmp_path / "photos" / f"{frame.number}.png")
    assert run("segment", index, clip, tmp_path / "photos", "--out", tmp_path / "m").exit_code == 0
    for frame, photo in zip(masks_of(tmp_path / "m" / "clip"), masks_of(tmp_path / "m"), strict=True):
        assert np.array_equal(frame, photo)


def test_smoothing_removes_flicker(index: Path, tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    scene = halves(1)[0]
    frames = [scene] * 5
    for _ in range(5):  # every other frame is disturbed, and the scene stands still
        frames += [scene, generator.integers(0, 255, size=scene.shape).astype(np.uint8)]
    clip = write_video(tmp_path / "clip.avi", frames, codec="FFV1")
    changes = {}
    for weight in (0, 0.9):
        out = tmp_path / str(weight)
        assert run("segment", index, clip, "--out", out, "--smooth", weight).exit_code == 0
        changes[weight] = sum(int((a != b).sum()) for a, b in pairwise(masks_of(out / "clip")))
    assert changes[0] > 500
    assert changes[0.9] < changes[0] / 4


def test_every_nth_frame(index: Path, clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "m"
    assert run("segment", index, clip, "--out", out, "--overlay", "--every", 4).exit_code == 0
    assert names_of(out / "clip") == ["000000.png", "000004.png"]
    video = cv2.VideoCapture(str(out / "clip.overlay.mp4"), cv2.CAP_FFMPEG)
    assert (video.get(cv2.CAP_PROP_FRAME_COUNT), video.get(cv2.CAP_PROP_FPS)) == (2, 2.5)


def test_a_stopped_run_goes_on(index: Path, clip: Path, data: Path, tmp_path: Path) -> None:
    out, photos = tmp_path / "m", data / "images"
    whole = run("segment", index, clip, photos, "--out", out)
    assert whole.exit_code == 0
    expected = masks_of(out / "clip")
    for name in ("000001.png", "000004.png"):
        (out / "clip" / name).unlink()
    (out / "photo1.png").unlink()
    kept = (out / "clip" / "000002.png").stat().st_mtime_ns
    assert "go on with --resume" in error_of(run("segment", index, clip, "--out", out))
    result = run("segment", index, clip, photos, "--out", out, "--resume", "--overlay")
    assert result.exit_code == 0, result.output
    assert "kept 4 masks of an earlier run" in result.stderr
    assert (out / "clip" / "000002.png").stat().st_mtime_ns == kept
    for mask, before in zip(masks_of(out / "clip"), expected, strict=True):
        assert np.array_equal(mask, before)
    assert (out / "clip.overlay.mp4").is_file() and (out / "photo1.png").is_file()
    result = run("segment", index, photos, "--out", out, "--resume")
    assert "kept the files of 3 images of an earlier run" in result.stderr
    assert "segmented 0 images" in result.stderr


def test_bad_videos_and_options(index: Path, clip: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"no video")
    assert "bad.mp4 cannot be opened" in error_of(run("segment", index, bad, "--out", tmp_path / "a"))
    result = run("segment", index, bad, clip, "--out", tmp_path / "b", "--skip-bad")
    assert result.exit_code == 0 and "skipped 1 bad image" in result.stderr
    assert names_of(tmp_path / "b") == ["clip"]
    out = tmp_path / "c"
    assert "--export names files of photos" in error_of(
        run("segment", index, clip, "--out", out, "--export", "coco")
    )
    assert "run it whole" in error_of(run("segment", index, clip, "--out", out, "--smooth", 0.5, "--resume"))
    (tmp_path / "photos").mkdir()
    assert "no video is named" in error_of(
        run("segment", index, tmp_path / "photos", "--out", out, "--every", 2)
    )
    other = tmp_path / "more" / "clip.mp4"
    other.parent.mkdir()
    write_video(other, halves(2))
    assert "would both be written to" in error_of(run("segment", index, clip, other, "--out", out))
    assert not out.exists()


def test_frames_that_were_lost_are_said(index: Path, tmp_path: Path) -> None:
    data = write_video(tmp_path / "a.avi", halves(10), codec="MJPG").read_bytes()
    cut = tmp_path / "cut.avi"
    cut.write_bytes(data[: len(data) // 2])
    result = run("segment", index, cut, "--out", tmp_path / "m", "--overlay")
    assert result.exit_code == 0, result.output
    lost = 10 - len(names_of(tmp_path / "m" / "cut"))
    assert f"declares 10 frames, and {lost} of them could not be decoded" in result.stderr and lost > 0


def test_frames_may_be_left_blank(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MYCELIA_CACHE", str(tmp_path / "cache"))
    generator = np.random.default_rng(0)
    frames = [generator.integers(0, 255, (48, 70, 3)).astype(np.uint8) for _ in range(2)]
    clip = write_video(tmp_path / "clip.avi", frames, codec="FFV1")
    asked = ["--json", "--smooth", "0.5", "transfer.unknown=0.9"]
    result = run("segment", index, clip, "--out", tmp_path / "m", *asked)
    assert result.exit_code == 0, result.output
    assert all(entry["blank"] > 0 for entry in json.loads(result.stdout))


def test_a_run_that_goes_on_writes_the_confidence_that_is_missing(
    index: Path, clip: Path, tmp_path: Path
) -> None:
    out = tmp_path / "m"
    assert run("segment", index, clip, "--out", out).exit_code == 0
    result = run("segment", index, clip, "--out", out, "--confidence", "--resume")
    assert result.exit_code == 0, result.output
    assert len(list((out / "clip").glob("*.confidence.png"))) == 6
