"""Builds with ``bank.shifts``: which patches are kept, where the index says they are, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from indexer import open_extractor
from indexer.bank.build import build_index
from indexer.bank.sampling import patch_labels, patches_per_image, plain_geometry, soft_labels
from indexer.datasets import Dataset
from indexer.images import PatchGrid
from indexer.recipe import BankSettings, Recipe, load_recipe, recipe_from_dict
from retrieval import open_index, read_images
from retrieval.errors import ConfigError
from segmentation import Segmenter

Folder = Callable[..., Dataset]
MakeRecipe = Callable[..., Recipe]
Numbers = npt.NDArray[Any]

SHIFTED = ("bank.shifts=2", "index.engine=exact")
EMBEDDINGS = "features.kind=embeddings"

pytestmark = pytest.mark.usefixtures("small_parts")


def rows_of(path: Path) -> tuple[Numbers, Numbers, Numbers]:
    """Vectors, labels and places of all rows."""
    with open_index(path) as index:
        blocks = list(index.stream())
    return (
        np.concatenate([block.vectors for block in blocks]),
        np.concatenate([block.labels for block in blocks]),
        np.concatenate([block.patches for block in blocks]),
    )


@pytest.mark.parametrize("fit", ["image.fit=stretch", "image.fit=pad"])
@pytest.mark.parametrize("features", [(EMBEDDINGS,), ("objective.kind=kl",)])
def test_every_row_is_the_patch_at_its_place(
    fit: str, features: tuple[str, ...], labelled_folder: Folder, tiny_recipe: MakeRecipe, tmp_path: Path
) -> None:
    dataset = labelled_folder(3)
    recipe = tiny_recipe(*SHIFTED, fit, *features, "bank.max_patches=null")
    report = build_index(dataset, tmp_path / "x", recipe=recipe)
    vectors, labels, patches = rows_of(tmp_path / "x")
    with open_index(tmp_path / "x") as index:
        extractor = open_extractor(tmp_path / "x", index.manifest)
    assert [record.patches for record in read_images(tmp_path / "x")] == np.bincount(patches[:, 0]).tolist()
    assert report.rows == len(vectors) == len({tuple(place) for place in patches.tolist()})
    for number, sample in enumerate(dataset.samples):
        image, columns = dataset.read(sample)
        tensor, geometry = extractor.prepare(image, plain_geometry(image.shape[:2], recipe.image))
        grid = PatchGrid(geometry, extractor.patch_size, 2)
        counts = patch_labels(columns, geometry, grid.patch_size, classes=3, shifts=2).reshape(*grid.shape, 3)
        mine = patches[:, 0] == number
        assert mine.sum() == counts.any(axis=-1).sum(), "all that have a label"
        height, width = geometry.content
        for down, right in np.ndindex(2, 2):
            moved = tensor.clone()  # by half a patch of 16, the last row and column repeated
            rows = [min(y + 8 * down, height - 1) for y in range(height)]
            cols = [min(x + 8 * right, width - 1) for x in range(width)]
            moved[:, :height, :width] = tensor[:, rows][:, :, cols]
            wanted = extractor.extract(moved[None])[0].numpy().reshape(*extractor.grid, -1)
            here = mine & (patches[:, 1] % 2 == down) & (patches[:, 2] % 2 == right)
            assert here.sum() > 2
            i, j = patches[here, 1], patches[here, 2]
            np.testing.assert_allclose(vectors[here], wanted[i // 2, j // 2], atol=2e-3)
            np.testing.assert_array_equal(labels[here], soft_labels(counts[i, j]))


def test_as_many_patches_are_kept_from_all_shifts(
    labelled_folder: Folder, tiny_recipe: MakeRecipe, tmp_path: Path
) -> None:
    dataset = labelled_folder(6)
    plain = build_index(dataset, tmp_path / "plain", recipe=tiny_recipe(EMBEDDINGS))
    moved = build_index(dataset, tmp_path / "x", recipe=tiny_recipe(EMBEDDINGS, *SHIFTED))
    assert plain.rows == moved.rows == 6 * 8
    patches = rows_of(tmp_path / "x")[2]
    assert np.bincount(patches[:, 0]).tolist() == [8] * 6
    assert {(i % 2, j % 2) for i, j in patches[:, 1:].tolist()} == {(0, 0), (0, 1), (1, 0), (1, 1)}
    assert (len(list((tmp_path / "x" / "thumbs").iterdir())), len(read_images(tmp_path / "x"))) == (6, 6)
    settings = BankSettings(max_patches=None, shifts=2)
    assert patches_per_image(settings, images=6, tokens=12) == 48
    assert patches_per_image(settings.model_copy(update={"max_patches": 180}), images=6, tokens=12) == 30


@pytest.mark.parametrize("augmented", [(), ("bank.epochs=2",), ("image.scale=1",)])
def test_votes_point_to_the_place_that_the_row_saw(
    augmented: tuple[str, ...], labelled_folder: Folder, tiny_recipe: MakeRecipe, tmp_path: Path
) -> None:
    dataset = labelled_folder(3)
    recipe = tiny_recipe(*SHIFTED, EMBEDDINGS, "bank.max_patches=null", *augmented)
    build_index(dataset, tmp_path / "x", recipe=recipe)
    sample, found = dataset.samples[1], 0
    with Segmenter.open(tmp_path / "x", shifts=2, overlap=0) as segmenter:
        result = segmenter.segment(sample.image)
        for row, col in ((9, 40), (20, 51), (33, 60), (50, 77), (60, 35), (66, 93)):
            asked = result.grid.patch_box(*result.patch_at(row, col))
            best = max(result.explain(row, col), key=lambda vote: vote.similarity)
            if best.similarity > 0.999:  # the photo is in the memory, where the patch has a label
                assert best.image_id == sample.id and best.box == pytest.approx(asked)
                found += 1
    assert found >= 5


@pytest.mark.parametrize("features", [(EMBEDDINGS, "features.metric=class"), ("features.pca=6",)])
def test_what_is_fitted_sees_images_once(
    features: tuple[str, ...], labelled_folder: Folder, tiny_recipe: MakeRecipe, tmp_path: Path
) -> None:
    dataset, stored = labelled_folder(4), []
    for name, shifts in (("plain", ()), ("x", SHIFTED)):
        build_index(dataset, tmp_path / name, recipe=tiny_recipe(*features, *shifts))
        with open_index(tmp_path / name) as index:
            stored.append(open_extractor(tmp_path / name, index.manifest)._tensors)
    for key in set(stored[0]) - {"metric_key"}:
        torch.testing.assert_close(stored[1][key], stored[0][key])


def test_recipes_with_shifts() -> None:
    recipe = load_recipe(None, ["bank.shifts=2"])
    assert recipe_from_dict(recipe.model_dump(mode="json")) == recipe
    assert recipe.fingerprint() != Recipe().fingerprint()
    with pytest.raises(ConfigError, match=r"bank\.shifts = 4 does not fit"):
        load_recipe(None, ["bank.shifts=4"])
    with pytest.raises(ConfigError, match=r"bank\.shifts=2 shifts patches; of whole images it has to be 1"):
        load_recipe(None, ["bank.shifts=2", "features.level=image"])
