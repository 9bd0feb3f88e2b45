"""Photos whose file promises more than their pixels use: few bits, alpha that hides all, further pages."""

from __future__ import annotations

import logging
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from indexer.images import read_image
from indexer.images.depth import DEPTHS, Depth

ODD = Path(__file__).parents[3].parent / "shared" / "data" / "odd" / "10_photos"


@pytest.fixture
def photo() -> np.ndarray:
    """(24, 40, 3) uint8 over the whole range."""
    photo = np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8)
    photo[0, 0] = 255
    return photo


def deepened(photo: np.ndarray, bits: int) -> np.ndarray:
    """The same values, of ``bits`` bits in uint16."""
    return np.rint(photo.astype(np.float64) * (2**bits - 1) / 255).astype(np.uint16)


@pytest.mark.parametrize("bits", DEPTHS)
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_grey_of_few_bits(
    tmp_path: Path, photo: np.ndarray, bits: int, suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    grey = photo[:, :, 0]
    path = tmp_path / f"deep.{suffix}"
    Image.fromarray(deepened(grey, bits)).save(path)
    for source in (path, deepened(grey, bits), deepened(grey, bits).astype(">u2")):
        np.testing.assert_allclose(read_image(source)[:, :, 1].astype(int), grey, atol=1)
    assert (f"deep.{suffix} uses {bits} of its 16 bits" in caplog.text) == (bits < 16)


@pytest.mark.parametrize("bits", DEPTHS)
@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("alpha", [False, True])
def test_colours_of_few_bits(tmp_path: Path, photo: np.ndarray, bits: int, suffix: str, alpha: bool) -> None:
    deep = deepened(photo, bits)
    if alpha:
        deep = np.dstack([deep, np.full(photo.shape[:2], 65535, np.uint16)])
    path = tmp_path / f"dé道.{suffix}"
    order = [2, 1, 0, 3][: deep.shape[2]]
    path.write_bytes(cv2.imencode(f".{suffix}", deep[:, :, order])[1].tobytes())
    for source in (path, deep):
        np.testing.assert_allclose(read_image(source).astype(int), photo, atol=1)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_deep_colours_are_turned_as_others(tmp_path: Path, orientation: int, suffix: str) -> None:
    upright = np.zeros((16, 32, 3), dtype=np.uint8)
    upright[:8, :16] = (255, 20, 90)
    path, deep = tmp_path / f"plain.{suffix}", tmp_path / f"deep.{suffix}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(upright).save(path, exif=exif)
    data = cv2.imencode(f".{suffix}", deepened(upright, 12)[:, :, ::-1])[1].tobytes()
    deep.write_bytes(_with_orientation(data, orientation) if suffix == "tif" else _with_exif(data, exif))
    np.testing.assert_allclose(read_image(deep).astype(int), read_image(path), atol=1)


def _with_exif(png: bytes, exif: Image.Exif) -> bytes:
    """A PNG with an eXIf chunk after its header."""
    import struct
    import zlib

    content = exif.tobytes().removeprefix(b"Exif\0\0")
    chunk = struct.pack(">I", len(content)) + b"eXIf" + content
    return png[:33] + chunk + struct.pack(">I", zlib.crc32(b"eXIf" + content)) + png[33:]


def _with_orientation(tiff: bytes, orientation: int) -> bytes:
    """A TIFF (little endian) whose directory has the orientation too, appended at the end."""
    import struct

    (place,) = struct.unpack("<I", tiff[4:8])
    (count,) = struct.unpack("<H", tiff[place : place + 2])
    rows = [tiff[place + 2 + 12 * row : place + 14 + 12 * row] for row in range(count)]
    rows = [row for row in rows if struct.unpack("<H", row[:2])[0] != 274]
    rows.append(struct.pack("<HHIHH", 274, 3, 1, orientation, 0))
    rows.sort(key=lambda row: struct.unpack("<H", row[:2])[0])
    tiff += b"\0" * (len(tiff) % 2)
    directory = struct.pack("<H", len(rows)) + b"".join(rows) + struct.pack("<I", 0)
    return tiff[:4] + struct.pack("<I", len(tiff)) + tiff[8:] + directory


def test_a_black_image_is_black(caplog: pytest.LogCaptureFixture) -> None:
    assert not read_image(np.zeros((4, 4), np.uint16)).any()
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("largest", "bits"), [(255, 8), (256, 10), (1023, 10), (1024, 12), (4096, 14), (16384, 16), (65535, 16)]
)
def test_the_fewest_bits_that_hold_the_largest(largest: int, bits: int) -> None:
    assert Depth.of(largest).bits == bits


def test_pgm_is_scaled_by_its_own_header(tmp_path: Path) -> None:
    path = tmp_path / "dim.pgm"
    path.write_bytes(b"P5 2 1 4095\n" + np.array([0, 1000], ">u2").tobytes())
    assert read_image(path)[0, :, 0].tolist() == [0, round(1000 / 4095 * 255)]


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
def test_alpha_that_hides_all_is_ignored(
    tmp_path: Path, photo: np.ndarray, mode: str, suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    if mode == "PA" or (suffix == "webp" and mode == "LA"):
        pytest.skip("not a mode of this format")
    layer = Image.fromarray(photo).convert(mode)
    layer.putalpha(0)
    path = tmp_path / f"hidden.{suffix}"
    layer.save(path, **({"lossless": True, "exact": True} if suffix == "webp" else {}))
    expected = np.array(Image.fromarray(photo).convert(mode[:-1]).convert("RGB"))
    np.testing.assert_array_equal(read_image(path), expected)
    assert f"hidden.{suffix} is wholly transparent" in caplog.text


def test_hidden_array_and_palette(tmp_path: Path, photo: np.ndarray) -> None:
    hidden = np.dstack([photo, np.zeros(photo.shape[:2], np.uint8)])
    np.testing.assert_array_equal(read_image(hidden), photo)
    image = Image.fromarray(np.zeros((2, 2), np.uint8), "P")
    image.putpalette([10, 20, 30])
    image.save(tmp_path / "p.png", transparency=0)
    assert read_image(tmp_path / "p.png")[0, 0].tolist() == [10, 20, 30]


@pytest.mark.parametrize("suffix", ["tif", "gif", "png", "webp"])
def test_further_pages_are_named(tmp_path: Path, suffix: str, caplog: pytest.LogCaptureFixture) -> None:
    pages = [Image.new("RGB", (3, 2), color) for color in ((255, 0, 0), (0, 0, 255), (0, 255, 0))]
    path = tmp_path / f"many.{suffix}"
    pages[0].save(path, save_all=True, append_images=pages[1:])
    assert read_image(path)[0, 0].tolist() == pytest.approx([255, 0, 0], abs=3)
    what = "pages" if suffix == "tif" else "frames"
    assert f"many.{suffix} has 3 {what}, of which the first is read" in caplog.text


def test_plain_photos_say_nothing(
    tmp_path: Path, photo: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "mycelia")
    for suffix in ("png", "tif", "jpg", "gif", "webp"):
        Image.fromarray(photo).save(tmp_path / f"plain.{suffix}")
        read_image(tmp_path / f"plain.{suffix}")
    assert caplog.text == ""


@pytest.mark.skipif(not ODD.is_dir(), reason=f"{ODD} is not there")
def test_the_same_photo_in_three_kinds_of_file() -> None:
    grey = read_image(ODD / "grey8.png").astype(int)
    np.testing.assert_allclose(read_image(ODD / "grey_12_in_16_bit.png").astype(int), grey, atol=1)
    assert read_image(ODD / "plain.png").shape == grey.shape
