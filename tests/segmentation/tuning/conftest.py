"""Labelled folders of flat colours, and a recipe with a tiny random ViT that tells colours apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from indexer.datasets import Dataset, load_dataset
from indexer.recipe import Recipe, load_recipe

TINY = (
    "backbone.model=test_vit",
    "backbone.weights=random",
    "backbone.block=1",
    "image.size=[32,32]",
    "objective.infonce.head_width=16",
    "objective.infonce.support_size=32",
    "bank.max_patches=null",
    "runtime.device=cpu",
)


@pytest.fixture
def tiny_recipe() -> Callable[..., Recipe]:
    return lambda *overrides: load_recipe(None, [*TINY, *overrides])


@pytest.fixture
def flat_images(tmp_path: Path) -> Callable[..., Dataset]:
    """``flat_images([("a-1", (200, 10, 10), 0), ...])``: one colour and one class an image."""

    def make(images: Sequence[tuple[str, tuple[int, int, int], int]]) -> Dataset:
        root = tmp_path / "flat"
        for part in ("images", "masks"):
            (root / part).mkdir(parents=True)
        noise = np.random.default_rng(0)
        for id, color, label in images:
            photo = np.clip(np.array(color) + noise.integers(-4, 5, (32, 32, 3)), 0, 255)
            Image.fromarray(photo.astype(np.uint8)).save(root / "images" / f"{id}.png")
            Image.fromarray(np.full((32, 32), label, np.uint8)).save(root / "masks" / f"{id}.png")
        return load_dataset(root)

    return make
