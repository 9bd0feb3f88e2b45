from __future__ import annotations

import numpy as np
import pytest

from indexer.images import PatchGrid, make_geometry
from segmentation import refine
from segmentation.refine import Window, refined_classes
from segmentation.upsample import classes_at

SIZE = (40, 56)


def grid_of(source: tuple[int, int], *, fit: str = "stretch", shifts: int = 1) -> PatchGrid:
    return PatchGrid(make_geometry(source, SIZE, fit=fit), (8, 8), shifts)  # type: ignore[arg-type]


def random_shares(grid: PatchGrid, classes: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.full(classes, 0.4), grid.shape).astype(np.float32)


def random_photo(size: tuple[int, int], seed: int = 0) -> np.ndarray:
    """Smooth colours with a little noise."""
    generator = np.random.default_rng(seed)
    waves = np.sin(generator.normal(size=(3, 2)) @ np.indices(size).reshape(2, -1) / 6)
    noise = generator.normal(size=(3, size[0] * size[1])) / 10
    return np.clip(127 + 90 * (waves + noise), 0, 255).T.reshape(*size, 3).astype(np.uint8)


def filtered(guide: np.ndarray, values: np.ndarray, radius: int, eps: float) -> np.ndarray:
    """The guided filter as its source states it, window by window, in float64."""
    height, width = values.shape
    pad = ((radius, radius), (radius, radius))
    colors = np.stack([np.pad(plane, pad, mode="symmetric") for plane in guide.astype(float)])
    padded = np.pad(values.astype(float), pad, mode="symmetric")
    slopes, offsets = np.zeros((3, height, width)), np.zeros((height, width))
    for row in range(height):
        for col in range(width):
            window = (slice(row, row + 2 * radius + 1), slice(col, col + 2 * radius + 1))
            pixels, targets = colors[:, window[0], window[1]].reshape(3, -1), padded[window].ravel()
            centred = pixels - pixels.mean(axis=1, keepdims=True)
            covariance = centred @ centred.T / targets.size + eps * np.eye(3)
            slopes[:, row, col] = np.linalg.solve(covariance, centred @ targets / targets.size)
            offsets[row, col] = targets.mean() - slopes[:, row, col] @ pixels.mean(axis=1)
    result = np.zeros((height, width))
    around = [np.pad(plane, pad, mode="symmetric") for plane in (*slopes, offsets)]
    for row in range(height):
        for col in range(width):
            *a, b = (plane[row : row + 2 * radius + 1, col : col + 2 * radius + 1].mean() for plane in around)
            result[row, col] = a @ guide[:, row, col] + b
    return result


@pytest.mark.parametrize("eps", [1e-4, 1e-2])
@pytest.mark.parametrize("radius", [1, 4])
def test_the_filter_is_the_papers(radius: int, eps: float) -> None:
    guide = (random_photo((23, 31)) / 255).astype(np.float32).transpose(2, 0, 1)
    values = np.random.default_rng(1).random((23, 31)).astype(np.float32)
    *slopes, offset = Window(guide, radius=radius, eps=eps).coefficients(values)
    found = sum(a * color for a, color in zip(slopes, guide, strict=True)) + offset
    np.testing.assert_allclose(found, filtered(guide, values, radius, eps), atol=5e-4)


def test_a_photo_of_the_inputs_size_is_filtered_class_by_class() -> None:
    grid, photo = grid_of(SIZE), random_photo(SIZE)
    shares = random_shares(grid, 3)
    columns, confidence = refined_classes(shares, grid, photo, radius=4, eps=1e-3)  # 4: not reduced
    planes = refine.interpolated(shares, *grid.coordinates())
    guide = (photo / 255).transpose(2, 0, 1)
    expected = np.stack([filtered(guide, plane, 4, 1e-3) for plane in planes])
    np.testing.assert_allclose(confidence, expected.max(axis=0).clip(0, 1), atol=1e-3)
    assert (columns == expected.argmax(axis=0)).mean() > 0.99
    assert columns.dtype == np.int32 and confidence.dtype == np.float32


@pytest.mark.parametrize("scale", [1, 3])
def test_an_edge_of_the_photo_becomes_an_edge_of_the_mask(scale: int) -> None:
    truth = np.zeros(SIZE, dtype=np.int32)
    truth[:, 27:] = 1  # 3 pixels from the border of a patch
    truth = truth.repeat(scale, axis=0).repeat(scale, axis=1)
    noise = np.random.default_rng(0).integers(-8, 9, (*truth.shape, 3))
    photo = np.clip(np.array([(60, 90, 160), (120, 140, 60)])[truth] + noise, 0, 255).astype(np.uint8)
    grid = grid_of(truth.shape)
    shares = np.zeros((*grid.shape, 2), dtype=np.float32)
    shares[:, :3, 0] = shares[:, 3:, 1] = 1  # the patch on the edge is of one class wholly
    plain = classes_at(shares, *grid.coordinates())[0]
    columns, _ = refined_classes(shares, grid, photo, radius=8, eps=1e-3)
    assert (plain == truth).mean() < 0.96
    assert (columns == truth).mean() > 0.995


def test_a_larger_copy_of_a_photo_gets_the_same_mask() -> None:
    small = random_photo(SIZE)
    large = small.repeat(3, axis=0).repeat(3, axis=1)
    shares = random_shares(grid_of(SIZE), 4)
    columns, _ = refined_classes(shares, grid_of(SIZE), small, radius=8, eps=1e-2)
    enlarged, _ = refined_classes(shares, grid_of(large.shape[:2]), large, radius=8, eps=1e-2)
    assert (enlarged[1::3, 1::3] == columns).mean() > 0.99


def test_equal_shares_everywhere_stay_as_they_are() -> None:
    grid = grid_of((61, 37), shifts=2)
    shares = np.tile(np.array([0.2, 0.5, 0.3], dtype=np.float32), (*grid.shape, 1))
    columns, confidence = refined_classes(shares, grid, random_photo((61, 37)), radius=8, eps=1e-3)
    assert (columns == 1).all()
    np.testing.assert_allclose(confidence, 0.5, atol=1e-3)


@pytest.mark.parametrize("strip", [1, 700])
def test_strips_and_groups_change_nothing(strip: int, monkeypatch: pytest.MonkeyPatch) -> None:
    grid, photo = grid_of((83, 61), fit="pad"), random_photo((83, 61))
    shares = random_shares(grid, 5)
    whole = refined_classes(shares, grid, photo, radius=8, eps=1e-3)
    monkeypatch.setattr(refine, "GROUP", 2)
    parts = refined_classes(shares, grid, photo, radius=8, eps=1e-3, strip=strip)
    np.testing.assert_array_equal(parts[0], whole[0])
    np.testing.assert_allclose(parts[1], whole[1], atol=1e-6)


@pytest.mark.parametrize("fit", ["stretch", "pad"])
@pytest.mark.parametrize("shifts", [1, 4])
@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (2, 3), (39, 57)])
def test_photos_of_any_shape(size: tuple[int, int], shifts: int, fit: str) -> None:
    grid = grid_of(size, fit=fit, shifts=shifts)
    columns, confidence = refined_classes(
        random_shares(grid, 3), grid, random_photo(size), radius=40, eps=1e-3
    )
    assert columns.shape == confidence.shape == size
    assert confidence.min() > 0 and confidence.max() <= 1


def test_padding_does_not_reach_into_the_mask() -> None:
    grid, photo = grid_of((20, 56), fit="pad"), random_photo((20, 56))
    shares = random_shares(grid, 3)
    other = shares.copy()
    other[3:] = [0, 0, 1]  # rows 24 and on are padding
    for mine, theirs in zip(
        refined_classes(shares, grid, photo, radius=8, eps=1e-3),
        refined_classes(other, grid, photo, radius=8, eps=1e-3),
        strict=True,
    ):
        np.testing.assert_array_equal(mine, theirs)


def test_no_label_at_all_gives_no_confidence() -> None:
    grid = grid_of(SIZE)
    shares = np.zeros((*grid.shape, 3), dtype=np.float32)
    columns, confidence = refined_classes(shares, grid, random_photo(SIZE), radius=8, eps=1e-3)
    assert not columns.any() and not confidence.any()


def test_absent_classes_keep_their_columns() -> None:
    grid = grid_of(SIZE)
    few = random_shares(grid, 3)
    many = np.zeros((*grid.shape, 150), dtype=np.float32)
    many[..., [4, 77, 149]] = few
    photo = random_photo(SIZE)
    columns, confidence = refined_classes(few, grid, photo, radius=8, eps=1e-3)
    found = refined_classes(many, grid, photo, radius=8, eps=1e-3)
    np.testing.assert_array_equal(found[0], np.array([4, 77, 149])[columns])
    np.testing.assert_array_equal(found[1], confidence)
