from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from retrieval.classes import ClassInfo, ClassMap
from retrieval.errors import MaskError, StorageError
from segmentation.drawing import masks, overlays, panels, pictures


def random_mask(classes: ClassMap, size: tuple[int, int] = (40, 50)) -> np.ndarray:
    return np.random.default_rng(0).choice(np.append(classes.ids, 255), size).astype(classes.mask_dtype)


def test_palette_png_round_trip(tmp_path, classes) -> None:
    mask = random_mask(classes)
    masks.write_mask(tmp_path / "mask.png", mask, classes)
    with Image.open(tmp_path / "mask.png") as image:
        assert image.mode == "P"
        np.testing.assert_array_equal(np.array(image), mask)
        colors = np.array(image.convert("RGB"))
    for info in classes.classes:
        assert (colors[mask == info.id] == info.color).all()
    np.testing.assert_array_equal(colors, masks.color_mask(mask, classes))


def test_large_ids_become_16_bit_grey(tmp_path) -> None:
    many = ClassMap(tuple(ClassInfo(id, f"class {id}", (1, 2, 3)) for id in (0, 70, 60_000)))
    mask = random_mask(many)
    masks.write_mask(tmp_path / "mask.png", mask, many)
    with Image.open(tmp_path / "mask.png") as image:
        assert image.mode == "I;16"
        np.testing.assert_array_equal(np.array(image), mask)


def test_a_failed_write_leaves_the_old_file(tmp_path, classes, monkeypatch) -> None:
    path, mask = tmp_path / "mask.png", random_mask(classes)
    masks.write_mask(path, mask, classes)
    before = path.read_bytes()

    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("retrieval.store.files.sync_file", full_disk)
    with pytest.raises(StorageError, match="full"):
        masks.write_mask(path, np.zeros_like(mask), classes)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["mask.png"]


def test_blend_paints_classes_and_leaves_the_background(classes) -> None:
    photo = np.full((60, 60, 3), 100, dtype=np.uint8)
    mask = np.zeros((60, 60), dtype=np.uint8)
    mask[:, 30:] = 2
    mixed = overlays.blend(photo, mask, classes, alpha=0.5)
    assert (mixed[:, :25] == 100).all()
    np.testing.assert_array_equal(mixed[30, 45], [150, 65, 70])
    assert (photo == 100).all()


def test_blend_fades_where_the_mask_is_unsure(classes) -> None:
    photo = np.full((60, 60, 3), 100, dtype=np.uint8)
    mask = np.full((60, 60), 2, dtype=np.uint8)
    confidence = np.ones((60, 60), dtype=np.float32)
    confidence[:30] = 0
    mixed = overlays.blend(photo, mask, classes, alpha=1, confidence=confidence)
    assert (mixed[15, 30] == 100).all()
    assert (mixed[45, 30] == (200, 30, 40)).all()


def test_outlines_run_between_regions_and_not_along_the_photo(classes) -> None:
    photo = np.zeros((40, 60, 3), dtype=np.uint8)
    mask = np.full((40, 60), 2, dtype=np.uint8)
    mask[:, 30:] = 5
    mixed = overlays.blend(photo, mask, classes, alpha=1)
    painted = np.where((mask == 2)[:, :, None], (200, 30, 40), (30, 160, 60))
    lines = np.argwhere((mixed != painted).any(axis=2))
    assert lines[:, 1].min() >= 27 and lines[:, 1].max() <= 32  # a thin line, softened at its sides
    assert set(lines[:, 0]) == set(range(40))


@pytest.mark.parametrize("size", [(1, 1), (5, 400), (300, 7), (120, 500)])
def test_overlay_has_the_photo_above_its_legend(classes, size) -> None:
    photo = np.random.default_rng(1).integers(0, 256, (*size, 3)).astype(np.uint8)
    mask = random_mask(classes, size)
    picture = overlays.overlay(photo, mask, classes)
    assert picture.dtype == np.uint8
    assert picture.shape[0] > size[0] + 10 and picture.shape[1] == max(size[1], 240)
    left = (picture.shape[1] - size[1]) // 2
    np.testing.assert_array_equal(
        picture[: size[0], left : left + size[1]], overlays.blend(photo, mask, classes)
    )
    legend = picture[size[0] :].reshape(-1, 3)
    for info in classes.classes:  # a swatch for each class present, none for the others
        assert (legend == info.color).all(axis=1).any() == (info.id in mask)


def test_overlay_needs_equal_sizes(classes) -> None:
    with pytest.raises(MaskError, match="same size"):
        overlays.overlay(np.zeros((4, 5, 3), np.uint8), np.zeros((5, 4), np.uint8), classes)


def test_confidence_grows_brighter() -> None:
    ramp = np.linspace(0, 1, 64, dtype=np.float32)[None]
    picture = overlays.confidence_picture(ramp)
    assert picture.shape == (1, 64, 3)
    light = picture[0].astype(float) @ (0.2126, 0.7152, 0.0722)
    assert (np.diff(light) > -1).all() and light[-1] > light[0] + 100


def test_errors_are_red(classes) -> None:
    photo = np.full((1, 3, 3), 128, dtype=np.uint8)
    picture = overlays.error_picture(photo, np.array([[0, 1, -1]]), np.array([[0, 0, 0]]))[0]
    assert picture[0].argmax() == 2 and picture[1].argmax() == 0
    assert len(set(picture[2].tolist())) == 1


def test_panels_stand_side_by_side() -> None:
    red, blue = np.full((30, 40, 3), (255, 0, 0), np.uint8), np.full((90, 30, 3), (0, 0, 255), np.uint8)
    picture = panels.panels([("first", red), ("a rather long caption", blue)], height=60)
    columns_of_red = np.flatnonzero((picture == (255, 0, 0)).all(axis=2).any(axis=0))
    columns_of_blue = np.flatnonzero((picture == (0, 0, 255)).all(axis=2).any(axis=0))
    assert (len(columns_of_red), len(columns_of_blue)) == (80, 20)
    assert columns_of_red.max() < columns_of_blue.min()


def test_pictures_are_written_by_their_suffix(tmp_path) -> None:
    picture = np.random.default_rng(2).integers(0, 256, (9, 7, 3)).astype(np.uint8)
    for name, format in (("a.png", "PNG"), ("a.jpg", "JPEG"), ("a.JPEG", "JPEG")):
        pictures.write_image(tmp_path / name, picture)
        with Image.open(tmp_path / name) as image:
            assert image.format == format and image.size == (7, 9)
    with Image.open(tmp_path / "a.png") as image:
        np.testing.assert_array_equal(np.array(image), picture)
