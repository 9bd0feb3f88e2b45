"""The size that image.size: auto takes, and when a photo is too long for a size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from indexer.images import read_image
from indexer.images.decode import read_shape
from indexer.images.headers import read_header
from indexer.images.size import LONGEST, MOST_PATCHES, aspect_gap, choose_size, is_long, own_size
from retrieval.errors import ImageError

USUAL, PATCH = (364, 476), (14, 14)


@pytest.mark.parametrize("usual", [(364, 476), (518, 518)])
@pytest.mark.parametrize("shape", [(360, 480), (480, 640), (3000, 4000), (1080, 1440), (375, 500), (84, 84)])
def test_ordinary_photos_keep_the_usual_size(shape: tuple[int, int], usual: tuple[int, int]) -> None:
    assert choose_size([shape] * 3, usual=usual, patch=PATCH).size == usual


def test_steel_is_seen_at_its_own_resolution() -> None:
    chosen = choose_size([(256, 1600)] * 16, usual=USUAL, patch=PATCH)
    assert chosen.size == (252, 1596)
    assert "256 x 1600" in chosen.reason and "2,052 patches" in chosen.reason


@pytest.mark.parametrize("usual", [(364, 476), (518, 518), (224, 896)])
@pytest.mark.parametrize("patch", [(14, 14), (16, 16), (14, 28)])
@pytest.mark.parametrize(
    "shape", [(256, 1600), (1600, 256), (50, 10000), (9000, 60), (5, 2000), (4000, 1500), (30, 200), (1, 1)]
)
def test_patches_are_whole_and_bounded(
    shape: tuple[int, int], patch: tuple[int, int], usual: tuple[int, int]
) -> None:
    usual = tuple(side // p * p for side, p in zip(usual, patch, strict=True))  # type: ignore[assignment]
    size = own_size(shape, usual=usual, patch=patch)
    rows, cols = size[0] / patch[0], size[1] / patch[1]
    assert rows == int(rows) >= 1 and cols == int(cols) >= 1
    assert rows * cols <= max(MOST_PATCHES, usual[0] * usual[1] / (patch[0] * patch[1]))
    if min(rows, cols) > 8:
        assert aspect_gap(shape, size) < 1.1


def test_the_middle_shape_decides() -> None:
    long, usual = (256, 1600), (480, 640)
    assert choose_size([long, usual, usual], usual=USUAL, patch=PATCH).size == USUAL
    assert choose_size([long, long, usual], usual=USUAL, patch=PATCH).size == (252, 1596)
    assert choose_size([], usual=USUAL, patch=PATCH).size == USUAL


def test_long_in_either_direction() -> None:
    for shape in ((100, int(100 * LONGEST) + 2), (int(100 * LONGEST) + 2, 100)):
        assert is_long(shape, (100, 100))
    assert not is_long((100, 179), (100, 100))


def test_the_shape_of_a_file_is_that_of_its_upright_pixels(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((10, 20, 3), np.uint8)).save(tmp_path / "turned.jpg", exif=exif)
    assert read_shape(tmp_path / "turned.jpg") == (20, 10)
    (tmp_path / "bad.jpg").write_bytes(b"no")
    with pytest.raises(ImageError, match=r"bad\.jpg"):
        read_shape(tmp_path / "bad.jpg")


@pytest.mark.parametrize("ending", ["jpg", "png", "tif", "webp"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_headers_agree_with_the_pixels(tmp_path: Path, ending: str, orientation: int) -> None:
    path = tmp_path / f"turned.{ending}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.zeros((10, 20, 3), dtype=np.uint8)).save(path, exif=exif)
    header = read_header(path)
    assert header is not None and header.size == read_shape(path) == read_image(path).shape[:2]
