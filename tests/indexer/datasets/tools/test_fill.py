"""Outlines as pixels, against another implementation of the same rule."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.path import Path as Outline

from indexer.datasets.tools.fill import box_corners, ellipse_corners, fill_polygon, fill_runs

SIZE = (9, 12)


def filled(points: np.ndarray, size: tuple[int, int] = SIZE) -> np.ndarray:
    """The whole image, (H, W) bool."""
    patch = fill_polygon(points, size)
    whole = np.zeros(size, bool)
    height, width = patch.inside.shape
    whole[patch.top : patch.top + height, patch.left : patch.left + width] = patch.inside
    return whole


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.integers(-50, 170), st.integers(-50, 140)), min_size=3, max_size=3))
def test_centres_inside_a_triangle(corners: list[tuple[int, int]]) -> None:
    points = np.array(corners) / 10 + 0.03  # no corner or edge goes through a centre exactly, or nearly so
    rows, cols = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    centres = np.stack([cols.ravel(), rows.ravel()], axis=1)
    away = np.full(len(centres), np.inf)
    for one, other in zip(points, np.roll(points, -1, axis=0), strict=True):
        along = other - one
        length = max(float(along @ along), 1e-9)
        share = np.clip((centres - one) @ along / length, 0, 1)[:, None]
        away = np.minimum(away, np.hypot(*(centres - one - share * along).T))
    sure = away > 1e-6
    expected = Outline(np.vstack([points, points[:1]])).contains_points(centres)
    assert (filled(points).ravel() == expected)[sure].all()


def test_a_box_of_whole_pixels() -> None:
    expected = np.zeros(SIZE, bool)
    expected[2:5, 3:7] = True
    assert (filled(box_corners(3, 2, 4, 3)) == expected).all()


def test_two_shapes_that_share_an_edge_share_no_pixel() -> None:
    left = filled(np.array([(0.0, 0.0), (4.5, 0.0), (6.5, 9.0), (0.0, 9.0)]))
    right = filled(np.array([(4.5, 0.0), (12.0, 0.0), (12.0, 9.0), (6.5, 9.0)]))
    assert (left ^ right).all()


def test_even_odd() -> None:
    twice = np.array([(1.0, 1.0), (5.0, 1.0), (5.0, 5.0), (1.0, 5.0)] * 2)
    assert not filled(twice).any()


@pytest.mark.parametrize("shift", [-40.0, 40.0])
def test_outside_is_nothing(shift: float) -> None:
    assert not filled(box_corners(shift, shift, 3, 3)).any()


def test_a_quarter_turn_swaps_the_sides() -> None:
    assert (filled(box_corners(4, 1, 2, 6, 90)) == filled(box_corners(2, 3, 6, 2))).all()


def test_an_ellipse_has_its_area() -> None:
    size = (200, 300)
    inside = filled(ellipse_corners(150, 100, 120, 60, 30), size)
    assert inside.sum() == pytest.approx(np.pi * 120 * 60, rel=0.01)
    assert inside[160, 240] and not inside[40, 240]  # turned clockwise: its right end points down


def test_runs_by_row_and_by_column() -> None:
    assert fill_runs([1, 2, 3], (2, 3)).tolist() == [[False, True, True], [False] * 3]
    assert fill_runs([1, 2, 3], (2, 3), by_column=True).tolist() == [
        [False, True, False],
        [True, False, False],
    ]


@pytest.mark.parametrize("counts", [[1, 2], [7], [-1, 7], [2.0, 4], []])
def test_runs_that_do_not_fit(counts: list[int]) -> None:
    with pytest.raises(ValueError, match=r"add up to 2 x 3 pixels"):
        fill_runs(counts, (2, 3))
