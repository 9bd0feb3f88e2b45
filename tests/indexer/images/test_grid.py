from __future__ import annotations

import numpy as np
import pytest

from indexer.images import PatchGrid, make_geometry
from retrieval.errors import ConfigError

SIZE = (42, 56)


def grid_of(
    source: tuple[int, int], *, fit: str = "stretch", patch: tuple[int, int] = (14, 7), shifts: int = 1
) -> PatchGrid:
    return PatchGrid(make_geometry(source, SIZE, fit=fit), patch, shifts)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("patch", "shifts", "moves"), [(14, 1, [0]), (14, 2, [0, 7]), (14, 4, [0, 4, 7, 11]), (7, 2, [0, 4])]
)
def test_moves_are_parts_of_a_patch_in_whole_pixels(patch: int, shifts: int, moves: list[int]) -> None:
    grid = grid_of(SIZE, patch=(patch, patch), shifts=shifts)
    assert grid.moves(0) == grid.moves(1) == moves
    assert grid.shape == (SIZE[0] // patch * shifts, SIZE[1] // patch * shifts)


@pytest.mark.parametrize("fit", ["stretch", "pad"])
def test_one_pass_is_the_geometry_as_it_was(fit: str) -> None:
    grid = grid_of((31, 77), fit=fit)
    for axis, expected in enumerate(grid.geometry.grid_coordinates((14, 7))):
        np.testing.assert_array_equal(grid.coordinates()[axis], expected)
    assert grid.seen == grid.geometry.content_grid((14, 7))
    assert grid.patch_box(1, 3) == grid.geometry.patch_box(1, 3, (14, 7))
    rows, cols = grid.geometry.patch_of_pixels((14, 7))
    assert grid.patch_at(30, 76) == (rows[30], cols[76])


def test_a_moved_input_repeats_the_photos_edge_and_leaves_padding_in_place() -> None:
    grid = grid_of((42, 112), fit="pad", shifts=2)  # 21 rows of photo, 21 of padding
    assert grid.geometry.content == (21, 56)
    expected = [*range(7, 21), *[20] * 7, *range(21, 42)]
    np.testing.assert_array_equal(grid.moved(0, 7), expected)
    np.testing.assert_array_equal(grid.moved(1, 4), [*range(4, 56), *[55] * 4])
    np.testing.assert_array_equal(grid.moved(0, 0), np.arange(42))


@pytest.mark.parametrize("fit", ["stretch", "pad"])
@pytest.mark.parametrize("shifts", [1, 2, 4])
@pytest.mark.parametrize("source", [(42, 56), (1, 1), (3, 200), (97, 5), (31, 77)])
def test_a_patchs_centre_has_its_own_coordinates(source: tuple[int, int], shifts: int, fit: str) -> None:
    grid = grid_of(source, fit=fit, shifts=shifts)
    for axis, patch in enumerate((14, 7)):
        centres = [(i + 0.5) * patch + d for i in range(SIZE[axis] // patch) for d in grid.moves(axis)]
        np.testing.assert_allclose(grid.at_input(axis, np.array(centres)), np.arange(grid.shape[axis]))
        assert len(grid.coordinates()[axis]) == source[axis]
        # no pixel of the photo is nearest to a patch that sees padding alone
        assert grid.coordinates()[axis].max() <= grid.seen[axis] - 0.5


@pytest.mark.parametrize("shifts", [1, 2, 4])
def test_the_patch_of_a_pixel_covers_it_and_is_centred_near_it(shifts: int) -> None:
    grid = grid_of((84, 112), shifts=shifts)  # each pixel of the input is two of the source
    for row, col in [(0, 0), (83, 111), (40, 57), (27, 28), (83, 0)]:
        top, left, bottom, right = grid.patch_box(*grid.patch_at(row, col))
        assert top <= row < bottom and left <= col < right
        if shifts > 1 and 14 <= row < 70:
            assert abs((top + bottom) / 2 - (row + 0.5)) <= 28 / shifts


def test_more_shifts_than_pixels_in_a_patch_are_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"image\.shifts or bank\.shifts=4 does not fit patches of 2 x 2 pixels"
    ):
        grid_of(SIZE, patch=(2, 2), shifts=4)
