"""Hummingbird's crops and colours against torchvision's, and a memory whose first epoch is augmented."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms import functional as vision

from indexer.bank.augmentation import PEERS_SCALE, augment, peers_box, peers_jitter, turn_hue
from indexer.bank.build import build_index
from indexer.bank.describe import THUMB_SIZE
from indexer.bank.sampling import plain_geometry
from indexer.datasets import Dataset
from indexer.images.crops import ASPECTS
from indexer.recipe import Recipe
from indexer.seeds import generator_for
from retrieval import IndexFolder

MakeRecipe = Callable[..., Recipe]


class TorchDraws:
    """Stands for a generator, with the numbers that torchvision draws."""

    def uniform(self, low: float, high: float) -> float:
        return torch.empty(1).uniform_(low, high).item()

    def integers(self, low: int, high: int) -> int:
        return int(torch.randint(low, high, size=(1,)).item())


class ListedDraws:
    """Stands for a generator, with given chances of the four jitters and factors of those applied."""

    def __init__(self, chances: list[float], factors: list[float]) -> None:
        self._chances, self._factors = iter(chances), iter(factors)

    def random(self) -> float:
        return next(self._chances)

    def uniform(self, low: float, high: float) -> float:
        factor = next(self._factors)
        assert low <= factor <= high
        return factor


@pytest.fixture
def photo() -> np.ndarray:
    """(45, 61, 3) uint8: noise over soft colours, and some grey."""
    rng = np.random.default_rng(0)
    soft = Image.fromarray(rng.integers(0, 256, (4, 5, 3)).astype(np.uint8)).resize((61, 45))
    image = np.clip(np.asarray(soft).astype(int) + rng.integers(-20, 20, (45, 61, 3)), 0, 255)
    image[:5] = 128
    return image.astype(np.uint8)


@pytest.mark.parametrize("shape", [(375, 500), (500, 333), (37, 53), (64, 64), (10, 200), (300, 20), (1, 1)])
def test_crops_are_those_of_torchvision(shape: tuple[int, int]) -> None:
    image = torch.zeros(3, *shape)
    for seed in range(60):
        torch.manual_seed(seed)
        top, left, height, width = RandomResizedCrop.get_params(image, list(PEERS_SCALE), list(ASPECTS))
        torch.manual_seed(seed)
        box = peers_box(shape, TorchDraws())  # type: ignore[arg-type]
        assert box == (top, left, top + height, left + width), f"seed {seed}"


def test_jitters_are_those_of_torchvision(photo: np.ndarray) -> None:
    picture = Image.fromarray(photo)
    for brightness, contrast, saturation, hue in [(0.9, 1.1, 0.93, 0.1), (1.07, 0.95, 1.1, -0.1)]:
        expected = vision.adjust_brightness(picture, brightness)
        expected = vision.adjust_contrast(expected, contrast)
        expected = vision.adjust_hue(vision.adjust_saturation(expected, saturation), hue)
        draws = ListedDraws([0.0, 0.5, 0.2, 0.4], [brightness, contrast, saturation, hue])
        seen = peers_jitter(photo, draws)  # type: ignore[arg-type]
        np.testing.assert_array_equal(seen, np.asarray(expected))


def test_each_jitter_is_left_out_by_itself(photo: np.ndarray) -> None:
    picture = Image.fromarray(photo)
    steps = {
        0: vision.adjust_brightness(picture, 1.1),
        1: vision.adjust_contrast(picture, 1.1),
        2: vision.adjust_saturation(picture, 1.1),
        3: vision.adjust_hue(picture, 0.07),
    }
    for number, expected in steps.items():
        chances = [0.3 if step == number else 0.51 for step in range(4)]
        draws = ListedDraws(chances, [0.07 if number == 3 else 1.1])
        seen = peers_jitter(photo, draws)  # type: ignore[arg-type]
        np.testing.assert_array_equal(seen, np.asarray(expected))
    nothing = peers_jitter(photo, ListedDraws([0.6] * 4, []))  # type: ignore[arg-type]
    np.testing.assert_array_equal(nothing, photo)


@pytest.mark.parametrize("turn", [-0.1, -0.033, 0.0, 0.002, 0.05, 0.1])
def test_hues_turn_as_torchvisions(photo: np.ndarray, turn: float) -> None:
    picture = Image.fromarray(photo)
    np.testing.assert_array_equal(
        np.asarray(turn_hue(picture, turn)), np.asarray(vision.adjust_hue(picture, turn))
    )


def test_everything_comes_from_the_generator(photo: np.ndarray) -> None:
    recipe = Recipe.model_validate({"image": {"size": (24, 32)}, "bank": {"augmentation": "hummingbird"}})
    boxes, unchanged = set(), 0
    for seed in range(64):
        seen, geometry = augment(photo, recipe, generator_for(seed))
        again, same = augment(photo, recipe, generator_for(seed))
        np.testing.assert_array_equal(seen, again)
        assert geometry == same
        assert (seen.shape, seen.dtype) == (photo.shape, np.uint8)
        assert all(edge == int(edge) for edge in geometry.box)
        unchanged += np.array_equal(seen, photo)
        boxes.add(geometry.box)
    assert len(boxes) > 40
    assert 0 <= unchanged < 16, "about one of sixteen images keeps all its colours"


def test_the_first_epoch_is_augmented_and_has_its_thumbnail(
    labelled_folder: Callable[..., Dataset], tiny_recipe: MakeRecipe, tmp_path: Path
) -> None:
    recipe = tiny_recipe("bank.epochs=2", "bank.augmentation=hummingbird")
    dataset = labelled_folder(4)
    build_index(dataset, tmp_path / "x", recipe=recipe)
    folder = IndexFolder.open(tmp_path / "x")
    assert folder.manifest.recipe["bank"]["augmentation"] == "hummingbird"
    shape = (folder.records[0].height, folder.records[0].width)
    whole = plain_geometry(shape, recipe.image).box
    for record, sample in zip(folder.records, dataset.samples * 2, strict=True):
        image, _ = dataset.read(sample)
        _, geometry = augment(image, recipe, generator_for(recipe.seed, "augment", sample.id, record.epoch))
        assert record.box == geometry.box
    assert any(record.box != whole for record in folder.records[:4])
    for number in range(4):
        thumbnail = folder.thumbnail(number)
        assert thumbnail is not None
        with Image.open(thumbnail) as small:
            assert small.size == shape[::-1] and max(shape) <= THUMB_SIZE, "of the whole image"
