from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from indexer.images import make_geometry
from segmentation.upsample import classes_at


def random_shares(h: int, w: int, c: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.full(c, 0.4), (h, w)).astype(np.float32)


@pytest.mark.parametrize("size", [(1, 1), (7, 301), (113, 57), (64, 96), (5, 4)])
def test_equals_torch_where_the_image_is_stretched(size: tuple[int, int]) -> None:
    shares = random_shares(8, 6, 5)
    rows, cols = make_geometry(size, (64, 48), fit="stretch").grid_coordinates((8, 8))
    columns, confidence = classes_at(shares, rows, cols)
    whole = F.interpolate(
        torch.from_numpy(shares).permute(2, 0, 1)[None], size=size, mode="bilinear", align_corners=False
    )[0]
    best = whole.max(dim=0).values.numpy()
    np.testing.assert_allclose(confidence, best, atol=2e-5)
    # where two classes tie within rounding, either may win
    won = np.take_along_axis(whole.numpy(), columns[None].astype(np.int64), axis=0)[0]
    np.testing.assert_allclose(won, best, atol=2e-5)
    assert (columns == whole.argmax(dim=0).numpy()).mean() > 0.99


@pytest.mark.parametrize("strip", [1, 500, 4096])
def test_strips_change_nothing(strip: int) -> None:
    shares = random_shares(5, 7, 4)
    rows, cols = make_geometry((83, 61), (40, 56), fit="pad").grid_coordinates((8, 8))
    whole = classes_at(shares, rows, cols, strip=10**9)
    parts = classes_at(shares, rows, cols, strip=strip)
    np.testing.assert_array_equal(parts[0], whole[0])
    np.testing.assert_array_equal(parts[1], whole[1])


def test_coordinates_outside_the_grid_are_clamped() -> None:
    shares = random_shares(3, 4, 3)
    inside = classes_at(shares, np.array([0.0, 2.0]), np.array([0.0, 3.0]))
    outside = classes_at(shares, np.array([-5.0, 9.0]), np.array([-0.5, 40.0]))
    np.testing.assert_array_equal(outside[1], inside[1])
    np.testing.assert_array_equal(inside[1][0, 0], shares[0, 0].max())


def test_absent_classes_keep_their_columns() -> None:
    shares = np.zeros((2, 2, 150), dtype=np.float32)
    shares[..., 140] = 0.25
    shares[..., 149] = 0.75
    columns, confidence = classes_at(shares, np.linspace(0, 1, 5), np.linspace(0, 1, 6))
    assert (columns == 149).all()
    np.testing.assert_allclose(confidence, 0.75)


def test_no_label_at_all_gives_no_confidence() -> None:
    columns, confidence = classes_at(np.zeros((2, 2, 3), dtype=np.float32), np.arange(4.0), np.arange(3.0))
    assert columns.shape == confidence.shape == (4, 3)
    assert not confidence.any()
