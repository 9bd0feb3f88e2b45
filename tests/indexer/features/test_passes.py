from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from indexer.features.passes import extract_passes
from indexer.images import PatchGrid, make_geometry
from indexer.recipe import Recipe, recipe_from_dict
from segmentation.upsample import interpolated

SIZE = (42, 56)


class MeanExtractor:
    """A patch's vector is the mean of its pixels, or of its left half: then a mirror shows another one."""

    def __init__(self, recipe: Recipe, patch: tuple[int, int], *, half: bool = False) -> None:
        self.recipe, self.patch, self.half = recipe, patch, half
        self.batches: list[int] = []

    def extract(self, images: torch.Tensor) -> torch.Tensor:
        self.batches.append(len(images))
        height, width = self.patch
        if self.half:
            images = images[..., (torch.arange(images.shape[-1]) % width) < width // 2]
            width //= 2
        return F.avg_pool2d(images, (height, width)).flatten(2).transpose(1, 2)  # (B, T, 3)


def recipe_of(*, batch_size: int = 4) -> Recipe:
    return recipe_from_dict({"image": {"size": list(SIZE)}, "runtime": {"batch_size": batch_size}})


def positions() -> torch.Tensor:
    """An input (3, H, W) whose pixels say where their centres are: row, column, and a plane of both."""
    rows, cols = (torch.arange(size, dtype=torch.float32) + 0.5 for size in SIZE)
    down, right = rows[:, None].expand(SIZE), cols[None].expand(SIZE)
    return torch.stack([down, right, 2 * down - right + 3])


@pytest.mark.parametrize("fit", ["stretch", "pad"])
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("shifts", [1, 2, 4])
@pytest.mark.parametrize("patch", [(14, 14), (14, 7), (7, 8)])
@pytest.mark.parametrize("source", [(42, 56), (61, 33), (97, 131)])
def test_a_linear_function_of_the_position_comes_back_exactly(source, patch, shifts, flip, fit) -> None:
    grid = PatchGrid(make_geometry(source, SIZE, fit=fit), patch, shifts)
    extractor = MeanExtractor(recipe_of(), patch)
    vectors = extract_passes(extractor, positions()[None], [grid], flip=flip)
    assert vectors.shape == (1, 1 + flip, grid.shape[0] * grid.shape[1], 3)
    rows, cols = (grid.geometry.input_places(axis) for axis in (0, 1))
    # between the first centre and the last one that sees neither padding nor a repeated edge
    inside = [
        (places >= side / 2) & (places <= content // side * side - side / 2)
        for places, side, content in zip((rows, cols), patch, grid.geometry.content, strict=True)
    ]
    for view in vectors[0]:
        shares = view.numpy().reshape(*grid.shape, 3)
        found = interpolated(shares, *grid.coordinates())[:, inside[0]][:, :, inside[1]]
        down, right = np.meshgrid(rows[inside[0]], cols[inside[1]], indexing="ij")
        np.testing.assert_allclose(found, [down, right, 2 * down - right + 3], atol=2e-4)


def test_patches_of_moved_passes_show_the_edge_repeated() -> None:
    grid = PatchGrid(make_geometry(SIZE, SIZE), (14, 14), 2)
    vectors = extract_passes(MeanExtractor(recipe_of(), (14, 14)), positions()[None], [grid], flip=False)
    down = vectors[0, 0].view(*grid.shape, 3)[:, 0, 0]
    last = (np.arange(35, 42) + 0.5).sum() / 14 + 41.5 / 2
    np.testing.assert_allclose(down, [7, 14, 21, 28, 35, last], rtol=1e-6)


@pytest.mark.parametrize("flip", [False, True])
def test_photos_of_a_batch_keep_to_themselves_whatever_its_size(flip: bool) -> None:
    photos = torch.rand(3, 3, *SIZE, generator=torch.Generator().manual_seed(0))
    grids = [
        PatchGrid(make_geometry(size, SIZE, fit="pad"), (14, 14), 2) for size in ((9, 9), (4, 9), (9, 3))
    ]
    extractor = MeanExtractor(recipe_of(batch_size=5), (14, 14))
    together = extract_passes(extractor, photos, grids, flip=flip)
    assert max(extractor.batches) == 5 and sum(extractor.batches) == 3 * 4 * (1 + flip)
    for photo, grid, found in zip(photos, grids, together, strict=True):
        torch.testing.assert_close(extract_passes(extractor, photo[None], [grid], flip=flip)[0], found)


def test_a_mirror_image_shows_each_patch_mirrored_in_its_own_place() -> None:
    photo = torch.rand(3, *SIZE, generator=torch.Generator().manual_seed(1))
    grid = PatchGrid(make_geometry(SIZE, SIZE), (14, 14), 1)
    plain, mirrored = extract_passes(
        MeanExtractor(recipe_of(), (14, 14), half=True), photo[None], [grid], flip=True
    )[0]
    halves = F.avg_pool2d(photo, (14, 7)).view(3, 3, 4, 2)
    torch.testing.assert_close(plain.T.reshape(3, 3, 4), halves[..., 0])
    torch.testing.assert_close(mirrored.T.reshape(3, 3, 4), halves[..., 1])
