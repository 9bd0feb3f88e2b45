"""Photos at a scale, in tiles: seams, exact places, strips, and the memory's scale."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from indexer.features.passes import extract_photos
from indexer.images import PatchGrid
from indexer.images.tiles import TiledGrid, lay_grid, lay_tiles
from indexer.images.windows import ArrayReader
from indexer.recipe import recipe_from_dict
from retrieval.errors import ConfigError
from segmentation.blend import blend_of
from segmentation.strips import strips_of
from segmentation.upsample import interpolated

SIZE = (42, 56)


class MeanExtractor:
    """A patch's vector is the mean of its pixels."""

    def __init__(self, recipe, patch) -> None:
        self.recipe, self.patch, self.most = recipe, patch, 0

    def extract(self, images: torch.Tensor) -> torch.Tensor:
        self.most = max(self.most, len(images))
        return F.avg_pool2d(images, self.patch).flatten(2).transpose(1, 2)  # (B, T, 3)


def positions(tiling) -> torch.Tensor:
    """The tiles (n, 3, H, W) of a scaled photo whose pixels say where they are: row, column, and both."""
    rows, cols = np.arange(tiling.size[0]) + 0.5, np.arange(tiling.size[1]) + 0.5
    tiles = []
    for top in tiling.starts[0]:
        for left in tiling.starts[1]:
            down, right = np.meshgrid(top + rows, left + cols, indexing="ij")
            tiles.append(np.stack([down, right, 2 * down - right + 3]))
    return torch.from_numpy(np.stack(tiles)).float()


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("shifts", [1, 2, 4])
@pytest.mark.parametrize("patch", [(14, 14), (14, 7), (7, 8)])
@pytest.mark.parametrize(("source", "scale"), [((97, 131), 1.0), ((33, 200), 1.5), ((250, 40), 0.7)])
def test_a_linear_function_of_the_position_comes_back_exactly(source, scale, patch, shifts, flip) -> None:
    recipe = recipe_from_dict(
        {
            "image": {"size": list(SIZE), "scale": scale, "shifts": shifts, "flip": flip},
            "runtime": {"batch_size": 3},
        }
    )
    tiling = lay_tiles(source, SIZE, scale=scale, overlap=0.5)
    grid, extractor = lay_grid(tiling, patch, shifts), MeanExtractor(recipe, patch)
    assert isinstance(grid, TiledGrid)
    (vectors,) = extract_photos(extractor, [positions(tiling)], [grid])
    assert vectors.shape == (1 + flip, grid.shape[0] * grid.shape[1], 3) and extractor.most <= 3
    places = [grid.geometry.input_places(axis) for axis in (0, 1)]
    # where each tile that counts has a whole patch, beyond its first and last centres, on either side
    inside = []
    for axis, (content, side) in enumerate(zip(tiling.content, patch, strict=True)):
        good = np.ones(len(places[axis]), dtype=bool)
        for start in tiling.starts[axis]:
            at = places[axis] - start
            covered = (at >= 0) & (at < content)
            good &= ~covered | ((at >= side / 2) & (at <= content // side * side - side / 2))
        inside.append(good)
    assert inside[0].any() and inside[1].any()
    for view in vectors:
        shares = view.numpy().reshape(*grid.shape, 3)
        found = blend_of(shares, grid, *places).planes(np.arange(3))[:, inside[0]][:, :, inside[1]]
        down, right = np.meshgrid(places[0][inside[0]], places[1][inside[1]], indexing="ij")
        np.testing.assert_allclose(found, [down, right, 2 * down - right + 3], atol=2e-3)


def test_a_blend_is_the_weighted_mean_of_the_tiles() -> None:
    grid = TiledGrid(lay_tiles((120, 150), SIZE, scale=1.0, overlap=0.4), (14, 14))
    shares = np.random.default_rng(0).dirichlet([0.3] * 5, grid.shape).astype(np.float32)
    rows, cols = (grid.geometry.input_places(axis) for axis in (0, 1))
    total, weights = np.zeros((5, 120, 150)), np.zeros((120, 150))
    for i, top in enumerate(grid.tiling.starts[0]):
        for j, left in enumerate(grid.tiling.starts[1]):
            tile = shares[i * 3 : i * 3 + 3, j * 4 : j * 4 + 4]
            down, right = np.arange(42) + 0.5, np.arange(56) + 0.5
            weight = np.minimum(down, 42 - down)[:, None] * np.minimum(right, 56 - right)
            part = np.s_[top : top + 42, left : left + 56]
            total[(slice(None), *part)] += weight * interpolated(tile, down / 14 - 0.5, right / 14 - 0.5)
            weights[part] += weight
    expected = total / weights
    blend = blend_of(shares, grid, rows, cols)
    np.testing.assert_allclose(blend.planes(np.arange(5)), expected, atol=2e-4)
    for strip in (1, 1000, 10**7):
        columns, confidence, _ = blend.classes(slice(None), strip=strip)
        np.testing.assert_allclose(confidence, expected.max(axis=0), atol=2e-4)
        assert (columns == expected.argmax(axis=0)).mean() > 0.999
    part = blend.classes(slice(31, 77))
    np.testing.assert_array_equal(part[0], columns[31:77])


@pytest.mark.parametrize("shifts", [1, 2])
@pytest.mark.parametrize("scale", [0.2, 0.5, 1.0])
@pytest.mark.parametrize("size", [(1, 1), (3, 200), (97, 5), (64, 96), (127, 164)])
def test_masks_at_a_scale_have_the_size_of_the_photo(world, scene, size, scale, shifts) -> None:
    photo, columns = scene(2, size)
    subject = world(image={"scale": scale, "shifts": shifts})
    result = subject.segment(photo)
    assert result.mask.shape == result.confidence.shape == size == result.size
    assert result.confidence.min() > 0.2 and result.confidence.max() <= 1
    if min(size) * scale > 30:
        assert (result.columns == columns).mean() > 0.85
    seen = result.columns_at_input()
    assert seen.shape == result.geometry.size
    votes = result.explain(size[0] - 1, size[1] // 2)
    assert sum(vote.weight for vote in votes) == pytest.approx(1, abs=1e-6)


def test_seams_do_not_show(world, scene) -> None:
    photo, columns = scene(103, (96, 150))
    result = world(image={"scale": 1.0}).segment(photo)
    assert isinstance(result.grid, TiledGrid) and result.grid.tiling.counts == (4, 4)
    wrong = result.columns != columns
    edges = (
        (np.diff(columns, axis=0) != 0).any(axis=1).nonzero()[0],
        (np.diff(columns, axis=1) != 0).any(axis=0).nonzero()[0],
    )
    for axis, lines in enumerate(edges):
        for line in lines:
            near = slice(max(0, line - 7), line + 9)
            wrong[(near, slice(None)) if axis == 0 else (slice(None), near)] = False
    assert not wrong.any()


@pytest.mark.parametrize(
    "image", [{}, {"fit": "pad"}, {"scale": 1.0}, {"scale": 0.4, "shifts": 2, "flip": True}, {"scale": 0.1}]
)
@pytest.mark.parametrize("size", [(1, 1), (3, 200), (97, 131), (600, 40)])
def test_strips_are_the_rows_of_the_whole_mask(world, scene, monkeypatch, image, size) -> None:
    monkeypatch.setattr("segmentation.strips.STRIP", 4000)
    photo, _ = scene(5, size)
    subject = world(image=image)
    whole = subject.segment(photo)
    strips = list(subject.segment_strips(ArrayReader(photo)))
    assert [strip.rows.start for strip in strips[1:]] == [strip.rows.stop for strip in strips[:-1]]
    columns = np.concatenate([strip.columns for strip in strips])
    np.testing.assert_array_equal(columns, whole.columns)
    np.testing.assert_allclose(
        np.concatenate([strip.confidence for strip in strips]), whole.confidence, atol=1e-6
    )


@pytest.mark.parametrize("image", [{}, {"scale": 1.0, "flip": True}])
@pytest.mark.parametrize("calibration", [None, 2.5])
def test_strips_know_priors_and_temperatures(world, scene, monkeypatch, image, calibration) -> None:
    monkeypatch.setattr("segmentation.strips.STRIP", 1000)
    photo, _ = scene(5, (97, 131))
    transfer = {"temperature": 1.0, "k": 60, "prior": {"tree": 0.6}, "calibration": calibration}
    subject = world(image=image, transfer=transfer)
    whole = subject.segment(photo)
    strips = list(subject.segment_strips(ArrayReader(photo), watched=[2, 0, 3]))
    assert len(strips) > 2
    np.testing.assert_array_equal(np.concatenate([strip.columns for strip in strips]), whole.columns)
    sure = np.concatenate([strip.confidence for strip in strips])
    np.testing.assert_allclose(sure, whole.confidence, atol=1e-5)
    peaks = np.max([strip.peaks for strip in strips], axis=0)
    shares = [whole.pixels.of_class(column) for column in (2, 0, 3)]
    np.testing.assert_allclose(peaks, [plane.max() for plane in shares], atol=1e-5)
    plain = world(image=image, transfer={**transfer, "prior": None}).segment(photo)
    assert (whole.columns != plain.columns).any()


def test_strips_hold_a_few_rows_of_tiles(world, scene, monkeypatch) -> None:
    monkeypatch.setattr("segmentation.strips.STRIP", 4000)
    read = []

    class Reader(ArrayReader):
        def read(self, window, reduced=1):
            read.append(window)
            return super().read(window, reduced)

    photo, _ = scene(5, (900, 60))
    running = world(image={"scale": 1.0}, runtime={"batch_size": 1}).segment_strips(Reader(photo))
    next(running)
    assert max(bottom for _, _, bottom, _ in read) < 250  # and not 900
    running.close()


def test_strips_of_a_photo_are_as_high_as_its_width_allows() -> None:
    assert [rows.stop for rows in strips_of((600, 15_000))] == [256, 512, 600]
    assert next(strips_of((10**6, 1000))).stop == 3840
    assert next(strips_of((10**6, 10**7))).stop == 16


def test_refined_edges_at_a_scale_follow_the_photo(world, scene) -> None:
    photo, columns = scene(1, (96, 150))
    columns, photo = columns.copy(), photo.copy()
    photo[:, 60:77], columns[:, 60:77] = (235, 225, 60), 3
    plain, guided = (
        world(image={"scale": 1.0}, transfer={"refine": refine, "refine_radius": 4}).segment(photo)
        for refine in ("none", "guided")
    )
    assert (guided.columns == columns).mean() > (plain.columns == columns).mean()
    assert guided.refined and guided.confidence.max() <= 1
    with pytest.raises(ConfigError, match=r"set transfer\.refine=none"):
        world(image={"scale": 1.0}, transfer={"refine": "guided"}).segment_strips(ArrayReader(photo))


def test_many_photos_of_several_tiles_are_segmented_as_one_is(world, scene) -> None:
    subject = world(image={"scale": 0.9, "shifts": 2})
    photos = [scene(seed, (20 + 30 * seed, 120 - 20 * seed))[0] for seed in range(5)]
    for photo, (_, result) in zip(photos, subject.segment_many(enumerate(photos)), strict=True):
        np.testing.assert_array_equal(result.mask, subject.segment(photo).mask)


def test_photos_of_many_tiles_are_not_read_by_the_batch(world, scene) -> None:
    read = []

    def photos():
        for seed in range(12):
            read.append(seed)
            yield seed, scene(seed, (96, 150))[0]  # 16 tiles

    results = world(image={"scale": 1.0}, runtime={"batch_size": 4}).segment_many(photos())
    next(results)
    results.close()
    assert len(read) <= 4


def test_a_photo_at_another_scale_than_the_memory_is_named_once(world, scene, caplog) -> None:
    subject = world()  # its memory photos are 64 x 96, fitted to 32 x 48
    subject.segment(scene(0, (80, 120))[0])
    assert not caplog.messages
    with caplog.at_level(logging.WARNING, "mycelia"):
        subject.segment(scene(0, (640, 960))[0])
        subject.segment(scene(0, (640, 960))[0])
    (message,) = caplog.messages
    assert message.startswith("a photo of 640 x 960 pixels") and "image.scale, for example 0.5" in message
    assert "a scale of 0.05, and memory images were at 0.5; things of as many pixels look smaller" in message
    caplog.clear()
    world(image={"scale": 0.5}).segment(scene(0, (640, 960))[0])
    assert not caplog.messages


def test_one_tile_is_a_photo_as_ever(world, scene) -> None:
    photo, _ = scene(4, (32, 48))
    scaled, fitted = world(image={"scale": 1.0}).segment(photo), world().segment(photo)
    assert isinstance(scaled.grid, PatchGrid)
    np.testing.assert_array_equal(scaled.mask, fitted.mask)
    np.testing.assert_array_equal(scaled.confidence, fitted.confidence)
