"""A tiny world for tests: flat colours are classes, and patches are described by their mean colour."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from indexer.datasets import Dataset, Sample
from indexer.datasets.labels import MaskFile
from indexer.images import Geometry, make_geometry
from indexer.recipe import Recipe, recipe_from_dict
from retrieval import PatchIndex, create_index
from retrieval.classes import ClassInfo, ClassMap
from retrieval.settings import IndexSettings
from retrieval.similarity import Cosine
from retrieval.store.manifest import Manifest
from retrieval.store.records import ImageRecord, read_images
from segmentation.segmenter import Segmenter

#: Ids with a gap and out of order, so that ids and columns cannot be confused.
CLASSES = ClassMap(
    (
        ClassInfo(9, "sky", (70, 130, 180)),
        ClassInfo(2, "road", (200, 30, 40)),
        ClassInfo(5, "tree", (30, 160, 60)),
        ClassInfo(0, "background", (0, 0, 0)),
    ),
    ignore=(255,),
)
#: What each class looks like in the photos (columns of CLASSES).
PAINT = np.array([(90, 150, 250), (220, 60, 60), (40, 190, 70), (235, 225, 60)], dtype=np.uint8)


class ColorExtractor:
    """Describes a patch by the direction of its mean colour from grey."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.patch_size = (8, 8)
        self.grid = (recipe.image.size[0] // 8, recipe.image.size[1] // 8)

    def prepare(self, image: np.ndarray, geometry: Geometry | None = None) -> tuple[torch.Tensor, Geometry]:
        geometry = geometry or make_geometry(
            image.shape[:2], self.recipe.image.size, fit=self.recipe.image.fit
        )
        pixels = geometry.apply(image, interpolation="bilinear")
        return torch.from_numpy(pixels).permute(2, 0, 1).float() / 255, geometry

    def extract(self, images: torch.Tensor) -> torch.Tensor:
        means = torch.nn.functional.avg_pool2d(images, 8).flatten(2).transpose(1, 2)  # (B, T, 3)
        centred = torch.nn.functional.pad(means - 0.5, (0, 1), value=0.1)
        return torch.nn.functional.normalize(centred, dim=-1)


def make_recipe(**changes: Any) -> Recipe:
    data: dict[str, Any] = {
        "image": {"size": [32, 48], "fit": "stretch"},
        "transfer": {"k": 5, "temperature": 0.05},
        "runtime": {"batch_size": 3},
    }
    for key, value in changes.items():
        data[key] = {**data.get(key, {}), **value}
    return recipe_from_dict(data)


def make_scene(seed: int, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """A noisy photo (H, W, 3) uint8 of two or three areas, and its class columns (H, W)."""
    generator = np.random.default_rng(seed)
    columns = np.full(size, generator.integers(4))
    columns[: size[0] // 2] = generator.integers(4)
    columns[:, size[1] // 2 :] = generator.integers(4)
    noise = generator.integers(-12, 13, (*size, 3))
    return np.clip(PAINT[columns].astype(int) + noise, 0, 255).astype(np.uint8), columns


def write_dataset(
    root: Path, scenes: list[tuple[np.ndarray, np.ndarray]], classes: ClassMap = CLASSES
) -> Dataset:
    samples = []
    root.mkdir(parents=True)
    for number, (photo, columns) in enumerate(scenes):
        image, mask = root / f"{number}.png", root / f"{number}-mask.png"
        Image.fromarray(photo).save(image)
        ids = np.where(columns < 0, 255, classes.ids[columns])
        Image.fromarray(ids.astype(np.uint8)).save(mask)
        samples.append(Sample(f"scene-{number}", image, MaskFile(mask, classes)))
    return Dataset("scenes", "folder", root, "val", tuple(samples), classes)


def build_index(
    folder: Path, scenes: list[tuple[np.ndarray, np.ndarray]], recipe: Recipe, classes: ClassMap = CLASSES
) -> PatchIndex:
    """A real exact index of the scenes: one row a patch, labelled by the columns under it."""
    extractor = ColorExtractor(recipe)
    manifest = Manifest(classes=classes, similarity=Cosine(4), recipe=recipe.model_dump(mode="json"))
    index = create_index(folder, manifest, rows=1, settings=IndexSettings(engine="exact", dtype="float32"))
    records = []
    for number, (photo, columns) in enumerate(scenes):
        tensor, geometry = extractor.prepare(photo)
        vectors = extractor.extract(tensor[None])[0].numpy()
        rows, cols = geometry.patch_of_pixels(extractor.patch_size)
        h, w = extractor.grid
        counts = np.zeros((h * w, len(classes)))
        np.add.at(counts, ((rows[:, None] * w + cols).ravel(), columns.ravel()), 1)
        labels = np.rint(255 * counts / counts.sum(axis=1, keepdims=True)).astype(np.uint8)
        places = [(number, row, col) for row in range(h) for col in range(w)]
        index.add(vectors, labels, np.array(places, dtype=np.int32))
        records.append(ImageRecord(number, f"memory-{number}", f"m{number}.png", "", *photo.shape[:2], h * w))
    index.flush(images=records)
    return index


MEMORY_SIZE = (64, 96)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Callable[..., Segmenter]]:
    """Makes segmenters on a memory of eight scenes; keywords go to the recipe's sections."""
    opened: list[Segmenter] = []

    def make(*, classes: ClassMap = CLASSES, k: int | None = None, **changes: Any) -> Segmenter:
        recipe = make_recipe(**changes)
        scenes = [make_scene(seed, MEMORY_SIZE) for seed in range(100, 108)]
        if classes is not CLASSES:  # the same scenes under other columns
            column_of = {info.name: column for column, info in enumerate(classes.classes)}
            table = np.array([column_of[name] for name in CLASSES.names])
            scenes = [(photo, table[columns]) for photo, columns in scenes]
        folder = tmp_path / f"index-{len(opened)}"
        index = build_index(folder, scenes, recipe, classes)
        opened.append(Segmenter(index, ColorExtractor(recipe), read_images(folder), k=k))
        return opened[-1]

    yield make
    for segmenter in opened:
        segmenter.close()


@pytest.fixture
def scene() -> Callable[[int, tuple[int, int]], tuple[np.ndarray, np.ndarray]]:
    return make_scene


@pytest.fixture
def dataset(tmp_path: Path) -> Callable[..., Dataset]:
    """Writes scenes as a data set of image and mask files."""

    def make(
        scenes: list[tuple[np.ndarray, np.ndarray]], *, classes: ClassMap = CLASSES, name: str = "data"
    ) -> Dataset:
        return write_dataset(tmp_path / name, scenes, classes)

    return make


@pytest.fixture
def classes() -> ClassMap:
    return CLASSES


@pytest.fixture
def color_extractor() -> type[ColorExtractor]:
    return ColorExtractor


@pytest.fixture
def index_on_disk(tmp_path: Path) -> Path:
    """A finished index of four scenes."""
    folder = tmp_path / "stored"
    scenes = [make_scene(seed, MEMORY_SIZE) for seed in range(4)]
    build_index(folder, scenes, make_recipe(runtime={"device": "cpu"})).close()
    return folder
