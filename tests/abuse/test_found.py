"""What the driver of abusive inputs found, each by itself."""

from __future__ import annotations

import io
import struct
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from indexer.archives import unpacked
from indexer.images import read_image
from retrieval import Filter
from retrieval.errors import ConfigError, DatasetError, ImageError
from retrieval.json_text import MOST_TOOL_BYTES, read_limited
from segmentation.cli.console import LONGEST
from segmentation.voter import check_transfer

from ..segmentation.cli.command import TINY, error_of, run, write_photos


@pytest.mark.parametrize("ending", [".png", ".jpg", ".eps"])
def test_no_photo_starts_a_program(tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(*_: Any, **__: Any) -> None:
        raise AssertionError("a program was started")

    monkeypatch.setattr(subprocess, "Popen", start)
    Image.new("RGB", (4, 5)).save(tmp_path / "photo.eps")
    photo = (tmp_path / "photo.eps").rename(tmp_path / f"photo{ending}")
    with pytest.raises(ImageError, match="is EPS, which other programs"):
        read_image(photo)


@pytest.mark.parametrize("source", [None, 3, b"x", {}, [], object()])
def test_what_is_no_image_is_said(source: Any) -> None:
    with pytest.raises(ImageError, match=f"not {type(source).__name__}"):
        read_image(source)


@pytest.mark.parametrize("source", ["x\0y", "\ud800", Path("x\0y")])
def test_what_no_file_can_be_called_is_said(source: Any) -> None:
    with pytest.raises(ImageError, match="no name that a file can have"):
        read_image(source)


@pytest.mark.parametrize(
    ("k", "temperature"), [("3", 0.1), (2.5, 0.1), (None, 0.1), (3, "x"), (3, None), (3, 1j)]
)
def test_k_and_temperature_are_numbers(k: Any, temperature: Any) -> None:
    with pytest.raises(ConfigError, match="whole number k of at least 1"):
        check_transfer(k, temperature)
    check_transfer(np.int64(3), np.float32(0.1))  # type: ignore[arg-type]


def test_a_zip_whose_members_begin_before_it(tmp_path: Path) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        made.writestr("a.txt", "a" * 100)
    content = bytearray(file.getvalue())
    end = content.rfind(b"PK\5\6")
    (size,) = struct.unpack_from("<I", content, end + 12)
    struct.pack_into("<I", content, end + 16, end - size + 60)  # as if 60 bytes before were cut off
    path = tmp_path / "a.zip"
    path.write_bytes(content)
    with pytest.raises(DatasetError, match="damaged or no archive"), unpacked(path):
        pass


def test_a_small_file_takes_little_memory_whatever_its_limit(tmp_path: Path) -> None:
    import tracemalloc

    path = tmp_path / "coco.json"
    path.write_bytes(b"x" * 1000)
    tracemalloc.start()
    try:
        assert read_limited(path, most=MOST_TOOL_BYTES) == b"x" * 1000
        assert tracemalloc.get_traced_memory()[1] < 2**27
    finally:
        tracemalloc.stop()


def test_a_usage_error_does_not_repeat_all_that_was_given(tmp_path: Path) -> None:
    result = run("inspect", tmp_path, "--unmasked", "x" * 100_000)
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()[-1]) < LONGEST + 100
    result = run("x" * 100_000)
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()[-1]) < LONGEST + 100


@pytest.mark.parametrize("out", [".", "./", "../here"])
def test_the_folder_at_hand_is_no_new_one(tmp_path: Path, out: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write_photos(tmp_path / "data")
    (tmp_path / "tiny.yaml").write_text(TINY)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for command in (
        ("index", "build", data, "--config", tmp_path / "tiny.yaml"),
        ("index", "convert", tmp_path / "i", "--to", "faiss"),
        ("index", "merge", tmp_path / "i", tmp_path / "j"),
        ("index", "compact", tmp_path / "i", "--keep", "0.5"),
        ("slices", data),
    ):
        assert "is the folder at hand" in error_of(run(*command, "--out", out)), command
    assert not any((tmp_path / "here").iterdir())


def test_the_limit_of_pixels_is_put_back_where_another_option_is_refused(tmp_path: Path) -> None:
    before = Image.MAX_IMAGE_PIXELS
    assert run("inspect", tmp_path, "--max-pixels", 200_000, "--sample", 0).exit_code == 2
    assert before == Image.MAX_IMAGE_PIXELS
    assert "100000" in run("inspect", tmp_path, "--max-pixels", 10).stderr


@pytest.mark.parametrize(
    "given",
    [
        *({"images": 255}, {"images": "ab"}, {"images": [0.5]}, {"not_classes": None}, {"not_images": ["a"]}),
        *({"datasets": [1]}, {"datasets": "a"}),
    ],
)
def test_a_filter_has_collections_of_numbers(given: Any) -> None:
    with pytest.raises(ConfigError, match="a filter's"):
        Filter(**given)
    assert Filter(images=np.array([1, 2]), not_images={np.int64(3)}).images == [1, 2]  # type: ignore[arg-type]


def test_a_refusal_does_not_send_back_all_that_was_sent() -> None:
    errors = pytest.importorskip("segmentation.service.errors")
    refusal = errors.bad_request(f"there is no format '{'x' * 100_000}'; choose another")
    message = refusal.body()["error"]["message"]
    assert len(message) < 1100
    assert message.startswith("there is no format 'xxx") and message.endswith("choose another")


@pytest.mark.parametrize("command", ["add", "replace"])
def test_a_word_where_a_setting_of_the_place_belongs(tmp_path: Path, command: str) -> None:
    data = write_photos(tmp_path / "data")
    assert "runtime.device=cpu" in error_of(run("index", command, tmp_path / "i", data, "nonsense"))


@pytest.mark.parametrize("tolerance", ["1e30", "inf", "100001"])
def test_a_tolerance_is_a_number_of_pixels(tmp_path: Path, tolerance: str) -> None:
    asked = ("segment", tmp_path / "i", tmp_path, "--out", tmp_path / "m", "--export", "coco")
    assert "give 0 to 100,000" in error_of(run(*asked, "--tolerance", tolerance))
