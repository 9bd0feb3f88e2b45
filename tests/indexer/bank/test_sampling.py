"""Patch labels against brute force, balanced sampling, the low-data choice, augmentation."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest

from indexer.bank.augmentation import augment
from indexer.bank.sampling import (
    choose_images,
    choose_patches,
    patch_labels,
    patches_per_image,
    plain_geometry,
    soft_labels,
)
from indexer.datasets import Dataset
from indexer.images import Fit, Geometry, PatchGrid, make_geometry
from indexer.recipe import BankSettings, Recipe
from indexer.seeds import generator_for


def labels_by_pixels(
    columns: npt.NDArray[np.int32], geometry: Geometry, patch: tuple[int, int], classes: int
) -> npt.NDArray[np.int64]:
    """Each pixel by itself: where its centre lies in the input, exactly, and so in which patch."""
    grid = (geometry.size[0] // patch[0], geometry.size[1] // patch[1])
    counts = np.zeros((grid[0] * grid[1], classes), dtype=np.int64)
    top, left, bottom, right = (Fraction(edge) for edge in geometry.box)
    for row in range(columns.shape[0]):
        for col in range(columns.shape[1]):
            y = (row + Fraction(1, 2) - top) * geometry.content[0] / (bottom - top)
            x = (col + Fraction(1, 2) - left) * geometry.content[1] / (right - left)
            inside = 0 <= y < geometry.content[0] and 0 <= x < geometry.content[1]
            if inside and columns[row, col] >= 0:
                place = math.floor(y / patch[0]) * grid[1] + math.floor(x / patch[1])
                counts[place, columns[row, col]] += 1
    return counts


@pytest.mark.parametrize("fit", ["stretch", "pad"])
@pytest.mark.parametrize("source", [(37, 53), (53, 37), (24, 32), (5, 60), (7, 9)])
@pytest.mark.parametrize("box", [None, (0.1, 0.25, 0.8, 0.75)])
def test_patch_labels_equal_brute_force(
    fit: str, source: tuple[int, int], box: tuple[float, float, float, float] | None
) -> None:
    columns = np.random.default_rng(0).integers(-1, 4, source).astype(np.int32)
    scaled = None if box is None else tuple(b * s for b, s in zip(box, source * 2, strict=True))
    geometry = make_geometry(source, (24, 32), fit=fit, box=scaled)  # type: ignore[arg-type]
    counts = patch_labels(columns, geometry, (8, 8), classes=4)
    np.testing.assert_array_equal(counts, labels_by_pixels(columns, geometry, (8, 8), 4))
    if box is None:
        assert counts.sum() == (columns >= 0).sum(), "every labelled pixel of the whole image counts once"


@pytest.mark.parametrize("fit", ["stretch", "pad"])
@pytest.mark.parametrize("source", [(37, 53), (53, 37), (24, 32), (5, 60)])
@pytest.mark.parametrize("patch", [(8, 8), (12, 4), (7, 9)])
def test_labels_of_shifted_passes_are_those_of_the_moved_mask(
    fit: Fit, source: tuple[int, int], patch: tuple[int, int]
) -> None:
    columns = np.random.default_rng(2).integers(-1, 3, source).astype(np.int32)
    grid = PatchGrid(make_geometry(source, (24, 32), fit=fit), patch, 2)
    counts = patch_labels(columns, grid.geometry, patch, classes=3, shifts=2).reshape(*grid.shape, 3)
    places = [
        [(i + Fraction(1, 2)) * grid.geometry.content[axis] / source[axis] for i in range(source[axis])]
        for axis in (0, 1)
    ]
    for row, col in np.ndindex(grid.shape):
        inside = []
        for axis, position in enumerate((row, col)):
            move = 0 if position % 2 == 0 else math.floor(Fraction(patch[axis], 2) + Fraction(1, 2))
            start = position // 2 * patch[axis] + move
            inside.append([start <= place < start + patch[axis] for place in places[axis]])
        seen = columns[np.ix_(*inside)]
        assert counts[row, col].tolist() == [(seen == c).sum() for c in range(3)]
    once = patch_labels(columns, grid.geometry, patch, classes=3)
    np.testing.assert_array_equal(counts[::2, ::2].reshape(-1, 3), once)


def test_patches_that_are_not_square() -> None:
    columns = np.random.default_rng(1).integers(-1, 3, (31, 41)).astype(np.int32)
    geometry = make_geometry((31, 41), (24, 32), fit="pad")
    np.testing.assert_array_equal(
        patch_labels(columns, geometry, (12, 4), classes=3),
        labels_by_pixels(columns, geometry, (12, 4), 3),
    )


def test_ignored_pixels_do_not_count() -> None:
    columns = np.full((16, 16), -1, dtype=np.int32)
    columns[0, 0], columns[0, 1:4] = 1, 0
    counts = patch_labels(columns, make_geometry((16, 16), (16, 16)), (8, 8), classes=2)
    assert counts.tolist() == [[3, 1], [0, 0], [0, 0], [0, 0]]
    assert soft_labels(counts).tolist() == [[191, 64], [0, 0], [0, 0], [0, 0]]


def test_soft_labels_are_shares_in_bytes() -> None:
    counts = np.random.default_rng(0).integers(0, 50, (40, 7))
    labels = soft_labels(counts)
    assert labels.dtype == np.uint8
    np.testing.assert_allclose(labels / 255, counts / counts.sum(1, keepdims=True), atol=0.5 / 255 + 1e-9)


def scores_by_hand(counts: npt.NDArray[np.int64], draws: npt.NDArray[np.float64]) -> dict[int, float]:
    labelled = [t for t in range(len(counts)) if counts[t].any()]
    scores = {}
    for t, draw in zip(labelled, draws, strict=True):
        present = [c for c in range(counts.shape[1]) if counts[t, c]]
        scores[t] = draw * sum(sum(1 for row in counts if row[c]) for c in present)
    return scores


def test_choice_keeps_the_smallest_scores() -> None:
    rng = np.random.default_rng(3)
    # the number of patches with a class decides, not the number of its pixels
    counts = rng.integers(0, 2, (30, 3)) * rng.integers(0, 2, (30, 1)) * (1, 7, 90)
    labelled = int((counts.sum(1) > 0).sum())
    assert 0 < labelled < 30
    scores = scores_by_hand(counts, generator_for(0, "x").random(labelled))
    kept = choose_patches(counts, 9, generator_for(0, "x"))
    assert kept.tolist() == sorted(sorted(scores, key=scores.__getitem__)[:9])


def test_rare_classes_win() -> None:
    counts = np.zeros((100, 2), dtype=np.int64)
    counts[:, 0] = 64
    counts[[10, 20, 30]] = (0, 64)
    rare = [
        np.isin([10, 20, 30], choose_patches(counts, 10, generator_for(seed))).sum() for seed in range(50)
    ]
    assert np.mean(rare) > 2.5, "uniform sampling would keep 0.3 of the three"


def test_unlabelled_patches_are_never_kept() -> None:
    counts = np.zeros((12, 2), dtype=np.int64)
    counts[[2, 7], 1] = 5
    assert choose_patches(counts, 12, generator_for(0)).tolist() == [2, 7]
    assert choose_patches(counts * 0, 12, generator_for(0)).tolist() == []


def test_choice_comes_from_the_generator_alone() -> None:
    counts = np.ones((60, 2), dtype=np.int64)
    first, again, other = (choose_patches(counts, 20, generator_for(seed, "id", 0)) for seed in (0, 0, 1))
    assert first.tolist() == again.tolist() != other.tolist()


def test_generators_depend_on_every_name() -> None:
    names = [(0, "a"), (1, "a"), (0, "b"), (0, "a", 0), (0, "a", 1), (0, "a0"), (0, "ab"), (0, "a", "b")]
    draws = [generator_for(*name).random() for name in names]  # type: ignore[arg-type]
    assert len(set(draws)) == len(draws)


@pytest.mark.parametrize(
    ("limit", "epochs", "images", "expected"),
    [
        (1000, 1, 10, 48),
        (100, 1, 10, 10),
        (109, 1, 10, 10),
        (100, 3, 10, 3),
        (5, 1, 10, 1),
        (None, 4, 10, 48),
    ],
)
def test_each_image_gives_its_share(limit: int | None, epochs: int, images: int, expected: int) -> None:
    settings = BankSettings(max_patches=limit, epochs=epochs)
    assert patches_per_image(settings, images=images, tokens=48) == expected


def test_low_data_choice(labelled_folder: Callable[..., Dataset]) -> None:
    dataset = labelled_folder(9)

    def ids(count: int | None, seed: int = 0, data: Dataset = dataset) -> list[str]:
        return [sample.id for sample in choose_images(data, BankSettings(max_images=count), seed=seed)]

    everything = [sample.id for sample in dataset.samples]
    assert ids(None) == ids(9) == ids(50) == everything
    assert ids(4) == [id for id in everything if id in ids(4)], "the data set's order stays"
    assert len(ids(4)) == 4
    assert set(ids(3)) < set(ids(5))
    assert len({tuple(ids(4, seed)) for seed in range(8)}) > 1
    turned = replace(dataset, samples=dataset.samples[::-1])
    assert ids(4, data=turned) == ids(4)[::-1], "which images depends on their ids, not on their order"


def test_augmentation_is_deterministic_and_stays_inside() -> None:
    image = np.random.default_rng(0).integers(0, 256, (37, 53, 3)).astype(np.uint8)
    recipe = Recipe.model_validate({"image": {"size": (24, 32)}})
    boxes = set()
    for seed in range(40):
        seen, geometry = augment(image, recipe, generator_for(seed))
        again, same = augment(image, recipe, generator_for(seed))
        np.testing.assert_array_equal(seen, again)
        assert geometry == same
        assert (seen.shape, seen.dtype) == (image.shape, np.uint8)
        top, left, bottom, right = geometry.box
        assert 0 <= top < bottom <= 37
        assert 0 <= left < right <= 53
        assert (bottom - top) * (right - left) <= 37 * 53
        assert geometry.apply(seen).shape == (24, 32, 3)
        boxes.add(geometry.box)
    assert len(boxes) > 8
    areas = [(b - t) * (r - le) / (37 * 53) for t, le, b, r in boxes]
    assert 0.4 < min(areas) < 0.75, "crops take between half the image and all of it"


def test_augmentation_can_be_switched_off() -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8)
    recipe = Recipe.model_validate(
        {"image": {"size": (16, 16)}, "bank": {"augmentation": {"jitter": 0, "scale": (4, 4)}}}
    )
    seen, geometry = augment(image, recipe, generator_for(0))
    np.testing.assert_array_equal(seen, image)
    assert geometry == plain_geometry((20, 30), recipe.image)
