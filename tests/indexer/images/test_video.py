"""Videos: frames in order, and what is said of bad ones."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest

from indexer.images.video import USUAL_RATE, VideoReader
from retrieval.errors import ImageError
from tests.videos import halves, write_video


def numbers(path: Path, every: int = 1) -> tuple[list[int], int]:
    with VideoReader(path) as reader:
        return [frame.number for frame in reader.frames(every=every)], reader.bad


def test_frames_come_in_order_and_upright(tmp_path: Path) -> None:
    frames = halves(6)
    for step, frame in enumerate(frames):
        frame[:, :10] = 30 * step
        frame[:10, :, 0] = 255  # red: the order of channels
    with VideoReader(write_video(tmp_path / "a.avi", frames, codec="FFV1")) as reader:
        assert (reader.declared, reader.rate) == (6, 10)
        found = list(reader.frames())
    assert [frame.number for frame in found] == list(range(6))
    assert [frame.seconds for frame in found] == pytest.approx([step / 10 for step in range(6)])
    for frame, expected in zip(found, frames, strict=True):
        assert np.abs(frame.pixels.astype(int) - expected).max() <= 4  # RGB to YUV, or none


def test_every_nth_and_wanted_frames(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", halves(10))
    assert numbers(path, every=4) == ([0, 4, 8], 0)
    with VideoReader(path) as reader:
        assert [frame.number for frame in reader.frames(every=2, wanted=lambda n: n > 3)] == [4, 6, 8]


def test_frames_that_cannot_be_decoded_are_counted(tmp_path: Path) -> None:
    whole = write_video(tmp_path / "a.mp4", halves(40, noise=80)).read_bytes()
    data = bytearray(whole)
    hole = slice(int(len(data) * 0.4), int(len(data) * 0.5))
    data[hole] = bytes(hole.stop - hole.start)
    (tmp_path / "hole.mp4").write_bytes(data)
    found, bad = numbers(tmp_path / "hole.mp4")
    assert 0 < bad < 10 and len(found) + bad == 40
    assert found[-1] == 39 and found == sorted(set(found))


def test_a_video_that_is_cut_short_gives_what_it_has(tmp_path: Path) -> None:
    data = write_video(tmp_path / "a.avi", halves(40), codec="MJPG").read_bytes()
    (tmp_path / "cut.avi").write_bytes(data[: len(data) // 2])
    found, bad = numbers(tmp_path / "cut.avi")
    assert found == list(range(len(found))) and 5 < len(found) < 30 and len(found) + bad == 40


def test_what_is_no_video_is_said_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("hello")
    write_video(tmp_path / "none.mp4", [])
    data = write_video(tmp_path / "a.mp4", halves(9)).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(data[: len(data) // 2])
    with wave.open(str(tmp_path / "sound.avi"), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(bytes(8000))
    for name in ("text.mp4", "none.mp4", "cut.mp4", "sound.avi"):
        with pytest.raises(ImageError, match=f"{name} cannot be opened: it is truncated"):
            VideoReader(tmp_path / name)
    with pytest.raises(ImageError, match="does not exist"):
        VideoReader(tmp_path / "gone.mp4")
    with pytest.raises(ImageError, match="is a folder"):
        VideoReader(tmp_path)


def test_a_rate_of_nonsense_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with VideoReader(write_video(tmp_path / "a.mp4", halves(2))) as reader, monkeypatch.context() as patch:

        class Nonsense:
            def get(self, _: int) -> float:
                return 90_000.0

        patch.setattr(reader, "_file", Nonsense())
        assert reader.rate == USUAL_RATE


def test_a_file_that_declares_nonsense_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = write_video(tmp_path / "clip.mp4", halves(3))
    monkeypatch.setattr(VideoReader, "declared", 10**12)
    with VideoReader(clip) as reader:
        assert [frame.number for frame in reader.frames()] == [0, 1, 2]
        assert reader.bad == 10**12 - 3
