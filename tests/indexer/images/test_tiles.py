"""Tiles of photos at a scale: what they cover, how they count, and what windows of a photo show."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from indexer.images import PatchGrid, make_geometry
from indexer.images.tiles import TiledGrid, lay_grid, lay_tiles
from indexer.images.windows import ArrayReader, see, within

SIZE = (42, 56)
SHAPES = [(1, 1), (3, 200), (97, 5), (42, 56), (43, 57), (61, 333), (250, 131)]


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5])
@pytest.mark.parametrize("scale", [0.31, 1.0, 1.5])
@pytest.mark.parametrize("source", SHAPES)
def test_tiles_cover_the_photo_and_overlap(source, scale, overlap) -> None:
    tiling = lay_tiles(source, SIZE, scale=scale, overlap=overlap)
    assert tiling.scaled == tuple(max(1, int(extent * scale + 0.5)) for extent in source)
    for starts, extent, tile in zip(tiling.starts, tiling.scaled, SIZE, strict=True):
        assert starts[0] == 0 and starts[-1] + tile == max(extent, tile)
        gaps = np.diff(starts)
        assert (gaps >= 1).all() and (gaps <= tile * (1 - overlap)).all()
        if len(gaps) and overlap == 0:  # no more than it takes
            assert len(starts) == -(-extent // tile)
    boxes = np.array([geometry.box for geometry in tiling.geometries()])
    assert boxes[:, :2].min() == 0 and tuple(boxes[:, 2:].max(axis=0)) == source
    for geometry in tiling.geometries():  # one scale for both axes and all tiles, but for rounding the photo
        for axis in (0, 1):
            extent = geometry.box[axis + 2] - geometry.box[axis]
            assert geometry.content[axis] / extent == pytest.approx(tiling.scaled[axis] / source[axis])


@pytest.mark.parametrize("shifts", [1, 2])
@pytest.mark.parametrize("source", SHAPES)
def test_weights_sum_to_one_and_vanish_at_inner_edges(source, shifts) -> None:
    grid = TiledGrid(lay_tiles(source, SIZE, scale=1.5, overlap=0.25), (14, 7), shifts)
    for axis in (0, 1):
        places = grid.geometry.input_places(axis)
        total = np.zeros(len(places))
        spans = grid.spans(axis, places)
        for span in spans:
            total[span.part] += span.weights
        np.testing.assert_allclose(total, 1, atol=1e-6)
        for before, after in pairwise(spans):
            assert before.weights[-1] < 0.15 and after.weights[0] < 0.15


def test_a_photo_that_fits_has_one_grid() -> None:
    assert isinstance(lay_grid(lay_tiles((20, 30), SIZE, scale=1.0), (14, 14)), PatchGrid)
    grid = lay_grid(lay_tiles((20, 90), SIZE, scale=1.0), (14, 14), 2)
    assert isinstance(grid, TiledGrid) and grid.shape == (6, 16) and grid.tile.seen == (4, 8)


@pytest.mark.parametrize("shifts", [1, 2])
@pytest.mark.parametrize(("source", "scale"), [((250, 131), 1.0), ((61, 333), 1.5), ((30, 200), 0.7)])
def test_patches_lie_where_they_are_said_to(source, scale, shifts) -> None:
    grid = TiledGrid(lay_tiles(source, SIZE, scale=scale, overlap=0.25), (14, 14), shifts)
    for row, col in [(0, 0), (source[0] - 1, source[1] - 1), (source[0] // 2, source[1] // 3), (11, 129)]:
        top, left, bottom, right = grid.patch_box(*grid.patch_at(row, col))
        # with shifts the nearest centre, whose patch reaches as far or farther
        assert top <= row + 0.5 + 1e-9 and row + 0.5 <= bottom + 1e-9
        assert left <= col + 0.5 + 1e-9 and col + 0.5 <= right + 1e-9


def assert_close(found: np.ndarray, expected: np.ndarray) -> None:
    """Resized alike, but for the rounding of coordinates and of colours, along one axis and the other."""
    gap = np.abs(found.astype(int) - expected)
    assert gap.max() <= 2 and (gap > 0).mean() < 0.01


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize("scale", [0.3, 1.0, 1.7])
def test_a_window_is_resized_as_the_whole_photo_is(scale, interpolation) -> None:
    photo = np.random.default_rng(0).integers(0, 256, (211, 307, 3), dtype=np.uint8)
    tiling = lay_tiles((211, 307), SIZE, scale=scale, overlap=0.25)
    for geometry in tiling.geometries():
        pixels, part = see(ArrayReader(photo), geometry)
        expected = geometry.apply(photo, interpolation=interpolation)
        found = part.apply(pixels, interpolation=interpolation)
        assert_close(found, expected)
        if scale > 0.5:
            assert pixels.size < photo.size


def test_tiles_are_pieces_of_the_scaled_photo() -> None:
    photo = np.random.default_rng(1).integers(0, 256, (150, 170, 3), dtype=np.uint8)
    tiling = lay_tiles((150, 170), SIZE, scale=1.3, overlap=0.25)
    whole = make_geometry((150, 170), tiling.scaled).apply(photo)
    for row, top in enumerate(tiling.starts[0]):
        for col, left in enumerate(tiling.starts[1]):
            found = tiling.geometry(row, col).apply(photo)
            piece = whole[top : top + SIZE[0], left : left + SIZE[1]]
            assert_close(found, piece)


def test_what_shrinks_much_is_read_reduced() -> None:
    asked = []

    class Means:
        shape = (4000, 6000)

        def read(self, window, reduced=1):
            asked.append((window, reduced))
            top, left, bottom, right = window
            size = -(-(bottom - top) // reduced), -(-(right - left) // reduced)
            rows = (np.arange(size[0]) + 0.5) / size[0] * 250
            return np.repeat(np.broadcast_to(rows[:, None, None], (*size, 1)), 3, axis=2).astype(np.uint8)

    pixels, geometry = see(Means(), make_geometry((4000, 6000), SIZE))
    assert asked == [((0, 0, 4000, 6000), 23)] and pixels.shape == (174, 261, 3)
    assert geometry.box == (0, 0, 174, 261) and geometry.content == SIZE
    seen = geometry.apply(pixels)[:, 0, 0]
    np.testing.assert_allclose(seen, (np.arange(42) + 0.5) / 42 * 250, atol=1.5)


def test_a_window_of_a_geometry_maps_alike() -> None:
    geometry = lay_tiles((150, 170), SIZE, scale=1.3, overlap=0.25).geometry(1, 2)
    part = within(geometry, (20, 30, 150, 170))
    for whole, piece, first in zip(
        geometry.patch_of_pixels((14, 14)), part.patch_of_pixels((14, 14)), (20, 30), strict=True
    ):
        np.testing.assert_array_equal(whole[first:], piece)
