"""Windows of TIFF files: colours, depths, georeferences, and files that are not as they should be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from indexer.images import raster, read_image
from indexer.images.raster import RasterReader, read_raster_header
from retrieval.errors import ImageError, MissingExtraError

rasterio = pytest.importorskip("rasterio", reason="rasterio (mycelia[geo]) is not installed")


def write(path: Path, bands: np.ndarray, **profile: object) -> Path:
    """A GeoTIFF of bands (N, H, W), in Berlin unless told otherwise."""
    profile = {
        "crs": "EPSG:32633",
        "transform": rasterio.Affine(0.5, 0, 390_000, 0, -0.5, 5_820_000),
        "tiled": True,
        "blockxsize": 32,
        "blockysize": 16,
        **profile,
    }
    count, height, width = bands.shape
    size = {"count": count, "height": height, "width": width, "dtype": bands.dtype.name}
    with rasterio.open(path, "w", driver="GTiff", **size, **profile) as file:
        file.write(bands)
    return path


def noise(count: int, *, most: int = 256, dtype: type = np.uint8) -> np.ndarray:
    return np.random.default_rng(count).integers(0, most, (count, 70, 90)).astype(dtype)


def test_windows_are_parts_of_the_image_and_say_where_it_lies(tmp_path: Path) -> None:
    bands = noise(3)
    path = write(tmp_path / "a.tif", bands)
    with RasterReader(path) as reader:
        assert reader.shape == (70, 90) and reader.reference.known
        assert reader.reference.crs.to_epsg() == 32633 and reader.reference.transform.a == 0.5
        np.testing.assert_array_equal(reader.read(), bands.transpose(1, 2, 0))
        np.testing.assert_array_equal(
            reader.read((11, 30, 60, 77)), bands[:, 11:60, 30:77].transpose(1, 2, 0)
        )
        np.testing.assert_array_equal(reader.read(), read_image(path))
        reduced = reader.read((0, 0, 70, 90), 10)
        expected = bands.reshape(3, 7, 10, 9, 10).mean(axis=(2, 4)).transpose(1, 2, 0)
        np.testing.assert_allclose(reduced, expected, atol=1)
        assert reader.read((0, 0, 70, 90), 40).shape == (2, 3, 3)
    header = read_raster_header(path)
    assert header is not None and header.shape == (70, 90) and header.georeferenced


@pytest.mark.parametrize(
    ("count", "profile"),
    [(1, {}), (2, {"alpha": "unspecified"}), (4, {"photometric": "rgb", "alpha": "yes"})],
)
def test_bands_are_grey_or_colours_and_alpha(tmp_path: Path, count: int, profile: dict[str, str]) -> None:
    bands = noise(count)
    with RasterReader(write(tmp_path / "a.tif", bands, **profile)) as reader:
        found = reader.read()
    if count == 4:
        share = bands[3] / 255
        expected = bands[:3] * share + 255 * (1 - share)
    else:
        expected = np.repeat(bands[:1], 3, axis=0)
    np.testing.assert_allclose(found, expected.transpose(1, 2, 0), atol=1)


def test_further_bands_are_left_out_with_a_word(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bands = noise(5)
    with RasterReader(write(tmp_path / "a.tif", bands, photometric="minisblack")) as reader:
        np.testing.assert_array_equal(reader.read(), bands[:3].transpose(1, 2, 0))
    assert "has 5 bands, of which 1, 2, 3 are seen as red, green and blue" in caplog.text


@pytest.mark.parametrize(("most", "bits"), [(4096, 12), (65536, 16)])
def test_16_bits_are_scaled_by_those_in_use_in_the_whole_file(tmp_path: Path, most: int, bits: int) -> None:
    bands = noise(3, most=most, dtype=np.uint16)
    bands[0, 0, 0] = most - 1
    bands[:, 20:] //= 8  # which alone would use fewer
    with RasterReader(write(tmp_path / "a.tif", bands)) as reader:
        found = reader.read((30, 0, 70, 90))
    expected = bands[:, 30:] * (255 / (2**bits - 1))
    np.testing.assert_allclose(found, expected.transpose(1, 2, 0), atol=0.51)


def test_palettes_and_reversed_grey_are_seen_as_colours(tmp_path: Path) -> None:
    colors = np.random.default_rng(0).integers(0, 256, (256, 3)).astype(np.uint8)
    numbers = noise(1)[0]
    image = Image.fromarray(numbers)
    image.putpalette(colors.ravel().tolist())
    image.save(tmp_path / "palette.tif")
    with RasterReader(tmp_path / "palette.tif") as reader:
        assert not reader.reference.known
        np.testing.assert_array_equal(reader.read(), colors[numbers])
        assert reader.read((0, 0, 70, 90), 10).shape == (7, 9, 3)
    white = write(tmp_path / "white.tif", noise(1), photometric="miniswhite")
    with RasterReader(white) as reader:
        np.testing.assert_array_equal(reader.read(), np.repeat(255 - noise(1), 3, axis=0).transpose(1, 2, 0))


def test_the_colours_of_a_printer_are_seen_as_pillow_sees_them(tmp_path: Path) -> None:
    path = write(tmp_path / "cmyk.tif", noise(4), photometric="cmyk")
    with RasterReader(path) as reader:
        assert np.abs(reader.read().astype(int) - read_image(path)).max() <= 1


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"float\.tif has float32 pixels; save it with 8 or 16 bits"):
        RasterReader(write(tmp_path / "float.tif", noise(1).astype(np.float32)))
    (tmp_path / "text.tif").write_bytes(b"no image")
    with pytest.raises(ImageError, match=r"text\.tif cannot be opened as TIFF"):
        RasterReader(tmp_path / "text.tif")
    assert read_raster_header(tmp_path / "text.tif") is None
    assert read_raster_header(tmp_path / "none.tif") is None
    path = write(tmp_path / "short.tif", noise(3))
    path.write_bytes(path.read_bytes()[:9000])
    with (
        pytest.raises(ImageError, match=r"short\.tif (is truncated or damaged|cannot be opened)"),
        RasterReader(path) as reader,
    ):
        reader.read()


def test_without_rasterio_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.tif", noise(3))
    monkeypatch.setattr(raster, "has_rasterio", lambda: False)
    assert read_raster_header(path) is None
    with pytest.raises(MissingExtraError, match=r"pip install 'mycelia\[geo\]'"):
        RasterReader(path)
