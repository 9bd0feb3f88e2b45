"""A memory of plain photos: each class is a colour, and an image is described by its mean colour."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from indexer.datasets import ClassLabels, Dataset, Sample
from indexer.features.whole.images import ImageExtractor
from indexer.images import read_image
from indexer.recipe import Recipe, recipe_from_dict
from retrieval import create_index
from retrieval.classes import ClassInfo, ClassMap
from retrieval.folder import IndexFolder
from retrieval.settings import IndexSettings
from retrieval.similarity import Cosine
from retrieval.store.files import sha256_file
from retrieval.store.manifest import Manifest
from retrieval.store.records import ImageRecord

CLASSES = ClassMap(
    (
        ClassInfo(4, "rose", (220, 40, 40)),
        ClassInfo(1, "leaf", (40, 200, 40)),
        ClassInfo(7, "sea", (0, 0, 255)),
    )
)
PAINT = {"rose": (220, 40, 40), "leaf": (40, 200, 40), "sea": (40, 60, 220)}
RECIPE: dict[str, Any] = {
    "image": {"size": [32, 32]},
    "transfer": {"k": 3, "temperature": 0.05},
    "runtime": {"batch_size": 2, "device": "cpu"},
}


class MeanColor:
    """The direction of an image's mean colour."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe

    def read(self, source: Any) -> np.ndarray:
        return read_image(source)

    def picture(self, content: np.ndarray) -> np.ndarray:
        return content

    def prepare_one(self, image: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(image).float().mean(dim=(0, 1))

    def collate(self, prepared: Sequence[torch.Tensor]) -> torch.Tensor:
        return torch.stack(list(prepared))

    def extract(self, images: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.normalize(images, dim=1)


def toy_recipe() -> Recipe:
    return recipe_from_dict(RECIPE)


def photo(color: str | tuple[int, int, int], seed: int, size: tuple[int, int] = (30, 40)) -> np.ndarray:
    """A noisy photo of a class's colour, or of any, (H, W, 3) uint8, tinted by its seed."""
    generator = np.random.default_rng(seed)
    base = np.array(PAINT[color] if isinstance(color, str) else color) + generator.integers(-15, 16, 3)
    return np.clip(base + generator.integers(-30, 31, (*size, 3)), 0, 255).astype(np.uint8)


def save(path: Path, picture: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)
    return path


def write_memory(root: Path, per_class: int = 4) -> list[tuple[Path, tuple[str, ...]]]:
    """Photos in a folder a class, with the names of their classes."""
    return [
        (save(root / name / f"{name}{n}.png", photo(name, 10 * column + n)), (name,))
        for column, name in enumerate(CLASSES.names)
        for n in range(per_class)
    ]


def build_memory(
    folder: Path, images: list[tuple[Path, tuple[str, ...]]], *, level: str = "image", thumbnails: bool = True
) -> Path:
    """An exact index with one row an image, as a build with features.level=image leaves it."""
    recipe = toy_recipe().model_dump(mode="json")
    recipe["features"]["level"] = level
    manifest = Manifest(classes=CLASSES, similarity=Cosine(3), recipe=recipe)
    index = create_index(folder, manifest, rows=1, settings=IndexSettings(engine="exact", dtype="float32"))
    extractor, records, small = MeanColor(toy_recipe()), [], {}
    for number, (path, names) in enumerate(images):
        pixels = np.array(Image.open(path).convert("RGB"))
        label = np.zeros((1, len(CLASSES)), dtype=np.uint8)
        for name in names:
            label[0, CLASSES.names.index(name)] = 255 // len(names)
        vector = extractor.extract(extractor.collate([extractor.prepare_one(pixels)])).numpy()
        index.add(vector, label, np.array([[number, 0, 0]], dtype=np.int32))
        height, width = pixels.shape[:2]
        sha, _ = sha256_of(path)
        records.append(ImageRecord(number, path.stem, str(path), sha, height, width, 1))
        small[number] = path.read_bytes()
    index.flush(images=records, thumbnails=small if thumbnails else None)
    index.close()
    return folder


def sha256_of(path: Path) -> tuple[str, int]:
    return sha256_file(path), path.stat().st_size


def make_dataset(root: Path, images: list[tuple[Path, tuple[int, ...]]], classes: ClassMap) -> Dataset:
    samples = tuple(Sample(path.stem, path, ClassLabels(columns, str(path))) for path, columns in images)
    return Dataset("flowers", "folder", root, "val", samples, classes)


def install_toy(patch: pytest.MonkeyPatch) -> None:
    """Let indexes be opened with the toy in the place of a backbone."""
    from segmentation.cli import overrides

    def open_toy(folder: Path, manifest: Manifest, *, runtime: Any = None) -> MeanColor:
        return MeanColor(toy_recipe())

    def built_recipe(folder: IndexFolder) -> Recipe:
        return toy_recipe()

    patch.setattr(ImageExtractor, "open", open_toy)
    patch.setattr(overrides, "built_recipe", built_recipe)
