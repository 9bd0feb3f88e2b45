"""A build that stopped at a bad mask and goes on after masks were corrected, in parts of the usual size."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from indexer.bank.build import build_index
from indexer.bank.parts import PART_IMAGES
from indexer.datasets import Dataset, load_dataset
from indexer.recipe import Recipe
from retrieval.errors import DatasetError, IndexMismatchError, MaskError

#: Two parts, the second of which holds the bad mask.
IMAGES, BAD = PART_IMAGES + 2, PART_IMAGES + 1


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Images with a bright left half; a third of each mask is class 1, but the mask ``BAD`` is broken."""
    root = tmp_path / "data"
    for part in ("images", "masks"):
        (root / part).mkdir(parents=True)
    for number in range(IMAGES):
        rng = np.random.default_rng(number)
        photo = rng.integers(0, 60, (28, 28, 3))
        photo[:, :14] += 150
        Image.fromarray(photo.astype(np.uint8)).save(root / "images" / f"{number:02d}.png")
        mask = np.zeros((28, 28), np.uint8)
        mask[9:, :14] = 1
        Image.fromarray(mask).save(root / "masks" / f"{number:02d}.png")
    (root / "masks" / f"{BAD:02d}.png").write_bytes(b"broken")
    return root


def stop_and_repair(root: Path, recipe: Recipe, out: Path, *, as_class: int = 1) -> Dataset:
    """Build until the bad mask, then repair it and make ten others wholly ``as_class``."""
    with pytest.raises(MaskError, match=rf"{BAD}\.png is not an image"):
        build_index(load_dataset(root), out, recipe=recipe)
    assert len(list(out.parent.glob(f"{out.name}.partial/part-*"))) == 1
    (root / "masks" / f"{BAD}.png").write_bytes((root / "masks" / "20.png").read_bytes())
    for number in range(10):
        Image.new("L", (28, 28), as_class).save(root / "masks" / f"{number:02d}.png")
    return load_dataset(root)


def test_corrected_masks_count(
    root: Path,
    tmp_path: Path,
    tiny_recipe: Callable[..., Recipe],
    content: Callable[[Path], dict[str, bytes]],
) -> None:
    recipe = tiny_recipe("features.kind=embeddings", "bank.max_patches=null")
    dataset = stop_and_repair(root, recipe, tmp_path / "x")
    build_index(dataset, tmp_path / "x", recipe=recipe)
    build_index(dataset, tmp_path / "fresh", recipe=recipe)
    assert content(tmp_path / "x") == content(tmp_path / "fresh")


def test_changed_classes_begin_anew(root: Path, tmp_path: Path, tiny_recipe: Callable[..., Recipe]) -> None:
    recipe = tiny_recipe("features.kind=embeddings", "bank.max_patches=null")
    dataset = stop_and_repair(root, recipe, tmp_path / "x", as_class=2)
    problem = r"^the classes changed: delete .*x\.partial to begin anew$"
    with pytest.raises(IndexMismatchError, match=problem):
        build_index(dataset, tmp_path / "x", recipe=recipe)


def test_one_class_is_no_memory(root: Path, tmp_path: Path, tiny_recipe: Callable[..., Recipe]) -> None:
    for path in (root / "masks").iterdir():
        Image.new("L", (28, 28)).save(path)
    with pytest.raises(DatasetError, match="holds the class id 0 alone, and a memory of one class"):
        build_index(load_dataset(root), tmp_path / "x", recipe=tiny_recipe())
