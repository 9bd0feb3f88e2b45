"""Labelled folders of flat colours, and a recipe with a tiny random ViT that tells colours apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from indexer.datasets import Dataset, load_dataset
from indexer.recipe import Recipe, load_recipe
from segmentation.tuning.cost import Cost
from segmentation.tuning.described import Described
from segmentation.tuning.settings import Setting

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


def steady(blocks: Mapping[int, Described], settings: Sequence[Setting]) -> dict[Setting, Cost]:
    """Costs that no clock decides: gradients double the features, a narrow search is a little cheaper."""
    return {
        s: Cost(
            100.0 * s.shifts**2 * (2 if s.weight else 1),
            10.0 * s.shifts**2 * (0.5 if s.reduction.width else 1),
            10.0 if s.refine == "guided" else 1.0,
            2 * (s.reduction.width or blocks[s.block].bank.parts[0].shape[1]),
        )
        for s in settings
    }


@pytest.fixture
def meter() -> Callable[..., dict[Setting, Cost]]:
    return steady


@pytest.fixture
def halves(tmp_path: Path) -> Callable[..., Dataset]:
    """Three places of four noisy photos each, left half dark and class 0, in ``flipped`` places class 1."""

    def make(flipped: str = "", places: str = "abc", at: str = "halves") -> Dataset:
        root, noise = tmp_path / at, np.random.default_rng(1)
        for part in ("images", "masks"):
            (root / part).mkdir(parents=True)
        for place in "abc":
            for number in range(4):
                mask = np.zeros((40, 48), dtype=np.uint8)
                mask[:, 20 + 2 * number :] = 1
                photo = noise.integers(0, 120, (40, 48, 3)) + 40 * mask[..., None]
                if place in places:
                    Image.fromarray(photo.astype(np.uint8)).save(root / "images" / f"{place}{number}.png")
                    mask = 1 - mask if place in flipped else mask
                    Image.fromarray(mask).save(root / "masks" / f"{place}{number}.png")
        return load_dataset(root)

    return make


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
