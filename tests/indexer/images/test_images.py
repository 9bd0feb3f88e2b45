"""Decoding of every kind of image, and geometry that comes back exactly where it started."""

from __future__ import annotations

import io
import warnings
from fractions import Fraction
from math import floor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from indexer.images import INTERPOLATIONS, list_images, make_geometry, read_image
from retrieval.errors import ConfigError, ImageError


@pytest.fixture
def photo() -> np.ndarray:
    """A picture (6, 10, 3) uint8 whose pixels all differ."""
    return np.arange(6 * 10 * 3, dtype=np.uint8).reshape(6, 10, 3)


def smooth(height: int, width: int) -> np.ndarray:
    """A picture large enough to be cut, (H, W, 3) uint8."""
    rows, cols = np.mgrid[0:height, 0:width]
    return np.stack([rows % 256, cols % 256, (rows + cols) % 256], axis=2).astype(np.uint8)


class TestDecoding:
    def test_sources_agree(self, tmp_path: Path, photo: np.ndarray) -> None:
        path = tmp_path / "photo.png"
        Image.fromarray(photo).save(path)
        for source in (path, str(path), Image.open(path), photo):
            image = read_image(source)
            assert image.dtype == np.uint8
            assert image.flags.writeable and image.flags.c_contiguous
            np.testing.assert_array_equal(image, photo)

    def test_array_is_copied(self, photo: np.ndarray) -> None:
        read_image(photo)[:] = 0
        assert photo.any()

    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
    def test_exif_orientation(self, tmp_path: Path, orientation: int, suffix: str) -> None:
        # Two quarters of the picture are light, so every turn and flip looks different.
        upright = np.zeros((16, 32, 3), dtype=np.uint8)
        upright[:8, :16] = 255
        upright[:8, 16:] = 90
        stored = {
            1: lambda a: a,
            2: lambda a: a[:, ::-1],
            3: lambda a: a[::-1, ::-1],
            4: lambda a: a[::-1],
            5: lambda a: a.transpose(1, 0, 2),
            6: lambda a: np.rot90(a, 1),
            7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
            8: lambda a: np.rot90(a, -1),
        }[orientation](upright)
        exif = Image.Exif()
        exif[0x0112] = orientation
        path = tmp_path / f"turned.{suffix}"
        options = {"quality": 100, "subsampling": 0} if suffix == "jpg" else {}
        Image.fromarray(np.ascontiguousarray(stored)).save(path, exif=exif, **options)
        np.testing.assert_allclose(read_image(path).astype(int), upright, atol=3)

    @pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
    def test_broken_exif_is_no_reason_to_refuse(self, tmp_path: Path, photo: np.ndarray) -> None:
        path = tmp_path / "exif.jpg"
        Image.fromarray(photo).save(path, exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff junk")
        assert read_image(path).shape == photo.shape

    def test_grey(self, tmp_path: Path) -> None:
        grey = np.array([[0, 100, 255]], dtype=np.uint8)
        Image.fromarray(grey).save(tmp_path / "grey.png")
        expected = np.repeat(grey[:, :, None], 3, axis=2)
        for source in (tmp_path / "grey.png", grey, grey[:, :, None]):
            np.testing.assert_array_equal(read_image(source), expected)

    @pytest.mark.parametrize("suffix", ["png", "tif"])
    def test_sixteen_bits_are_scaled(self, tmp_path: Path, suffix: str) -> None:
        values = np.array([[0, 128, 129, 257, 32768, 65535]], dtype=np.uint16)
        path = tmp_path / f"deep.{suffix}"
        Image.fromarray(values).save(path)
        for source in (path, values, values.astype(">u2"), Image.fromarray(values.astype(np.int32))):
            assert read_image(source)[0, :, 1].tolist() == [0, 0, 1, 1, 128, 255]

    def test_alpha_lies_over_white(self, tmp_path: Path) -> None:
        pixels = np.array([[[10, 20, 30, 255], [10, 20, 30, 0], [0, 0, 0, 51]]], dtype=np.uint8)
        path = tmp_path / "alpha.png"
        Image.fromarray(pixels).save(path)
        for source in (path, pixels):
            assert read_image(source)[0].tolist() == [[10, 20, 30], [255, 255, 255], [204, 204, 204]]

    def test_grey_alpha(self, tmp_path: Path) -> None:
        Image.fromarray(np.array([[[7, 255], [7, 0]]], dtype=np.uint8), "LA").save(tmp_path / "la.png")
        assert read_image(tmp_path / "la.png")[0, :, 0].tolist() == [7, 255]

    def test_palette_and_transparent_index(self, tmp_path: Path) -> None:
        image = Image.fromarray(np.array([[0, 1, 2]], dtype=np.uint8), "P")
        image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
        image.save(tmp_path / "palette.png")
        image.save(tmp_path / "hole.png", transparency=1)
        assert read_image(tmp_path / "palette.png")[0].tolist() == [[255, 0, 0], [0, 255, 0], [0, 0, 255]]
        assert read_image(tmp_path / "hole.png")[0].tolist() == [[255, 0, 0], [255, 255, 255], [0, 0, 255]]

    def test_one_bit(self, tmp_path: Path) -> None:
        bits = np.array([[True, False]])
        Image.fromarray(bits).save(tmp_path / "bits.png")
        for source in (tmp_path / "bits.png", bits):
            assert read_image(source)[0, :, 2].tolist() == [255, 0]

    def test_cmyk_and_ycbcr(self, tmp_path: Path) -> None:
        red = Image.new("RGB", (8, 8), (200, 30, 40))
        for mode in ("CMYK", "YCbCr"):
            path = tmp_path / f"{mode}.jpg"
            red.convert(mode).save(path, quality=100)
            np.testing.assert_allclose(read_image(path)[0, 0].astype(int), (200, 30, 40), atol=4)

    def test_first_frame_of_an_animation(self, tmp_path: Path) -> None:
        frames = [Image.new("RGB", (3, 2), color) for color in ((255, 0, 0), (0, 0, 255))]
        frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
        assert read_image(tmp_path / "moving.gif")[0, 0].tolist() == [255, 0, 0]


class TestBadImages:
    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(ImageError, match=r"gone\.jpg does not exist"):
            read_image(tmp_path / "gone.jpg")

    def test_folder(self, tmp_path: Path) -> None:
        with pytest.raises(ImageError, match="is a folder"):
            read_image(tmp_path)

    @pytest.mark.parametrize("content", [b"", b"not an image at all", b"\xff\xd8\xff"])
    def test_no_image(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "text.jpg"
        path.write_bytes(content)
        with pytest.raises(ImageError, match=r"text\.jpg is not an image"):
            read_image(path)

    @pytest.mark.parametrize("options", [{}, {"progressive": True}])
    @pytest.mark.parametrize("share", [0.3, 0.6, 0.9, 0.99])
    def test_truncated_jpeg(self, tmp_path: Path, options: dict[str, bool], share: float) -> None:
        whole = io.BytesIO()
        noise = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
        Image.fromarray(noise).save(whole, "JPEG", **options)
        path = tmp_path / "cut.jpg"
        path.write_bytes(whole.getvalue()[: int(share * len(whole.getvalue()))])
        with pytest.raises(ImageError, match=r"cut\.jpg"):
            read_image(path)

    @pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "webp", "gif"])
    def test_other_truncated_files(self, tmp_path: Path, suffix: str) -> None:
        path = tmp_path / f"cut.{suffix}"
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)).save(path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(ImageError, match=r"cut\."):
            read_image(path)

    @pytest.mark.parametrize("limit", [10, 40, 59])
    @pytest.mark.parametrize("action", ["ignore", "error"])
    def test_bomb(
        self, tmp_path: Path, photo: np.ndarray, monkeypatch: pytest.MonkeyPatch, limit: int, action: str
    ) -> None:
        path = tmp_path / "bomb.png"
        Image.fromarray(photo).save(path)  # 60 pixels
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with warnings.catch_warnings():
            warnings.simplefilter(action, Image.DecompressionBombWarning)  # type: ignore[arg-type]
            with pytest.raises(ImageError, match=r"bomb\.png has more than \d+ pixels"):
                read_image(path)

    def test_no_limit_is_no_bomb(
        self, tmp_path: Path, photo: np.ndarray, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
        assert read_image(Image.fromarray(photo)).shape == photo.shape

    def test_floating_point_file(self, tmp_path: Path) -> None:
        path = tmp_path / "float.tif"
        Image.fromarray(np.ones((2, 2), dtype=np.float32)).save(path)
        with pytest.raises(ImageError, match="floating point"):
            read_image(path)

    def test_colour_mode_without_way_to_rgb(self) -> None:
        with pytest.raises(ImageError, match="colour mode La"):
            read_image(Image.new("La", (2, 2)))

    def test_lab_has_a_way(self) -> None:
        assert (read_image(Image.new("LAB", (2, 2), (255, 128, 128))) > 250).all()

    def test_no_pixels(self) -> None:
        with pytest.raises(ImageError, match="no pixels"):
            read_image(Image.new("RGB", (0, 3)))

    def test_32_bit_values(self) -> None:
        with pytest.raises(ImageError, match="32 bit"):
            read_image(Image.fromarray(np.array([[70_000]], dtype=np.int32)))

    @pytest.mark.parametrize("shape", [(4,), (3, 4, 2), (3, 8, 8), (0, 4, 3), (1, 4, 4, 3)])
    def test_array_of_wrong_shape(self, shape: tuple[int, ...]) -> None:
        with pytest.raises(ImageError, match=r"must be \(H, W\)"):
            read_image(np.zeros(shape, dtype=np.uint8))

    @pytest.mark.parametrize("dtype", [np.float32, np.int64])
    def test_array_of_wrong_dtype(self, dtype: type) -> None:
        with pytest.raises(ImageError, match="uint8"):
            read_image(np.zeros((4, 4, 3), dtype=dtype))


def test_list_images_finds_nested_and_skips_the_rest(tmp_path: Path) -> None:
    for name in ("b.JPG", "a.png", "sub/c.tiff", "notes.txt", ".hidden/d.png", "._b.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [path.relative_to(tmp_path).as_posix() for path in list_images(tmp_path)] == [
        "a.png",
        "b.JPG",
        "sub/c.tiff",
    ]


ODD_SIZES = [(1, 1), (7, 5), (37, 61), (366, 500), (333, 257), (1081, 719)]


class TestGeometry:
    @pytest.mark.parametrize("source", ODD_SIZES)
    def test_stretch_gives_the_exact_patch(self, source: tuple[int, int]) -> None:
        size, patch = (364, 476), (14, 14)
        rows, cols = make_geometry(source, size).patch_of_pixels(patch)
        for found, extent, input_extent in ((rows, source[0], size[0]), (cols, source[1], size[1])):
            half = Fraction(1, 2)
            assert found.dtype == np.int32
            assert found.tolist() == [floor((r + half) * input_extent / extent / 14) for r in range(extent)]

    @pytest.mark.parametrize("fit", ["stretch", "pad"])
    @pytest.mark.parametrize("source", ODD_SIZES)
    def test_every_pixel_lies_in_the_box_of_its_patch(self, source: tuple[int, int], fit: str) -> None:
        geometry = make_geometry(source, (98, 126), fit=fit)
        rows, cols = geometry.patch_of_pixels((14, 14))
        assert rows.min() >= 0 and cols.min() >= 0
        for r, row in enumerate(rows):
            top, _, bottom, _ = geometry.patch_box(int(row), int(cols[0]), (14, 14))
            assert top - 1e-9 <= r + 0.5 <= bottom + 1e-9
        for c, col in enumerate(cols):
            _, left, _, right = geometry.patch_box(int(rows[0]), int(col), (14, 14))
            assert left - 1e-9 <= c + 0.5 <= right + 1e-9

    @pytest.mark.parametrize("fit", ["stretch", "pad"])
    def test_grid_coordinates_round_to_the_patch(self, fit: str) -> None:
        geometry = make_geometry((61, 37), (70, 56), fit=fit, box=(3.25, 1.5, 55.75, 36.0))
        for patches, coordinates in zip(
            geometry.patch_of_pixels((14, 7)), geometry.grid_coordinates((14, 7)), strict=True
        ):
            inside = patches >= 0
            assert coordinates.dtype == np.float32
            assert inside.any() and not inside.all()
            np.testing.assert_array_equal(np.floor(coordinates[inside] + 0.5), patches[inside])

    def test_grid_coordinates_of_patch_centres_are_integers(self) -> None:
        rows, cols = make_geometry((42, 28), (126, 84)).grid_coordinates((42, 42))  # 14 source pixels a patch
        np.testing.assert_allclose((rows[6] + rows[7]) / 2, 0, atol=1e-6)
        np.testing.assert_allclose((cols[20] + cols[21]) / 2, 1, atol=1e-6)

    def test_boxes_tile_the_source(self) -> None:
        geometry = make_geometry((37, 61), (42, 70))
        boxes = [geometry.patch_box(row, col, (14, 14)) for row in range(3) for col in range(5)]
        area = sum((bottom - top) * (right - left) for top, left, bottom, right in boxes)
        assert area == pytest.approx(37 * 61)
        assert boxes[0][:2] == (0, 0)
        assert boxes[-1][2:] == (37, 61)

    @pytest.mark.parametrize(
        ("source", "content"),
        [((100, 200), (28, 56)), ((200, 100), (56, 28)), ((50, 50), (56, 56)), ((1, 1000), (1, 56))],
    )
    def test_pad_keeps_the_aspect(self, source: tuple[int, int], content: tuple[int, int]) -> None:
        geometry = make_geometry(source, (56, 56), fit="pad")
        assert geometry.content == content
        image = np.full((*source, 3), 200, dtype=np.uint8)
        out = geometry.apply(image, fill=(1, 2, 3))
        assert out.shape == (56, 56, 3)
        assert (out[: content[0], : content[1]] == 200).all()
        padding = np.ones((56, 56), dtype=bool)
        padding[: content[0], : content[1]] = False
        assert (out[padding] == (1, 2, 3)).all()

    def test_padding_has_an_empty_box(self) -> None:
        geometry = make_geometry((10, 20), (28, 28), fit="pad")
        top, _, bottom, _ = geometry.patch_box(1, 0, (14, 14))
        assert top == bottom == 10

    def test_pixels_outside_the_box_have_no_patch(self) -> None:
        geometry = make_geometry((10, 10), (4, 4), box=(2.0, 3.0, 6.0, 9.0))
        rows, cols = geometry.patch_of_pixels((2, 2))
        assert rows.tolist() == [-1, -1, 0, 0, 1, 1, -1, -1, -1, -1]
        assert cols.tolist() == [-1, -1, -1, 0, 0, 0, 1, 1, 1, -1]

    def test_pixels_beyond_the_box_do_not_fall_into_the_padding(self) -> None:
        rows, cols = make_geometry((10, 10), (4, 4), fit="pad", box=(0, 0, 2, 4)).patch_of_pixels((2, 2))
        assert rows.tolist() == [0, 0] + [-1] * 8
        assert cols.tolist() == [0, 0, 1, 1] + [-1] * 6

    def test_a_partial_patch_is_no_patch(self) -> None:
        rows, _ = make_geometry((5, 5), (5, 5)).patch_of_pixels((2, 2))
        assert rows.tolist() == [0, 0, 1, 1, -1]

    def test_same_size_changes_nothing(self) -> None:
        image = smooth(28, 42)
        np.testing.assert_array_equal(make_geometry((28, 42), (28, 42)).apply(image), image)

    def test_whole_pixel_box_is_a_crop(self) -> None:
        image = smooth(20, 30)
        geometry = make_geometry((20, 30), (8, 6), box=(3, 5, 11, 11))
        np.testing.assert_array_equal(geometry.apply(image, interpolation="bilinear"), image[3:11, 5:11])

    def test_fractional_box_is_honoured(self) -> None:
        ramp = np.repeat(np.arange(0, 200, 10, dtype=np.uint8)[None, :, None], 3, axis=2).repeat(4, axis=0)
        out = make_geometry((4, 20), (4, 8), box=(0, 4.5, 4, 12.5)).apply(ramp, interpolation="bilinear")
        np.testing.assert_allclose(out[0, :, 0].astype(int), np.arange(45, 125, 10), atol=1)

    def test_apply_and_patches_agree(self) -> None:
        # Each patch of the input shows just those source pixels that patch_of_pixels says it covers.
        source = np.zeros((36, 60, 3), dtype=np.uint8)
        geometry = make_geometry((36, 60), (28, 42), box=(4, 6, 32, 48))
        rows, cols = geometry.patch_of_pixels((14, 14))
        source[np.ix_(rows == 1, cols == 2)] = 255
        out = geometry.apply(source, interpolation="nearest")
        assert (out[14:, 28:] == 255).all()
        assert out.sum() == 14 * 14 * 3 * 255

    def test_shrinking_antialiases(self) -> None:
        stripes = np.zeros((64, 64, 3), dtype=np.uint8)
        stripes[:, ::2] = 255
        out = make_geometry((64, 64), (8, 8)).apply(stripes, interpolation="bilinear")
        assert (abs(out[:, 1:-1].astype(int) - 128) < 12).all()

    @pytest.mark.parametrize("name", INTERPOLATIONS)
    def test_every_interpolation_keeps_a_flat_image(self, name: str) -> None:
        image = np.full((9, 5, 3), 77, dtype=np.uint8)
        assert (make_geometry((9, 5), (14, 14)).apply(image, interpolation=name) == 77).all()

    def test_unknown_interpolation(self) -> None:
        with pytest.raises(ConfigError, match="bicubic"):
            make_geometry((2, 2), (2, 2)).apply(np.zeros((2, 2, 3), dtype=np.uint8), interpolation="cubic")

    def test_image_of_another_size(self) -> None:
        with pytest.raises(ImageError, match=r"\(2, 3, 3\)"):
            make_geometry((2, 3), (2, 2)).apply(np.zeros((3, 2, 3), dtype=np.uint8))

    @pytest.mark.parametrize(
        "box", [(0, 0, 0, 5), (0, 0, 11, 5), (-1, 0, 5, 5), (0, 6, 5, 5), (0, 0, float("nan"), 5)]
    )
    def test_impossible_box(self, box: tuple[float, float, float, float]) -> None:
        with pytest.raises(ConfigError, match="rectangle within the image"):
            make_geometry((10, 5), (14, 14), box=box)

    def test_impossible_fit_and_size(self) -> None:
        with pytest.raises(ConfigError, match="stretch or pad"):
            make_geometry((10, 5), (14, 14), fit="crop")  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match="positive"):
            make_geometry((10, 5), (0, 14))
