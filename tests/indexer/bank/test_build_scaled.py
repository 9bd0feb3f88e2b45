"""Builds at a scale: rows of tiles, where they lie, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from indexer import open_extractor
from indexer.bank.build import build_index
from indexer.bank.describe import prepare_job
from indexer.bank.jobs import BankJob
from indexer.datasets import Dataset
from indexer.images.tiles import TiledGrid, lay_tiles
from indexer.images.windows import ArrayReader, see
from indexer.recipe import Recipe
from retrieval import open_index, read_images
from retrieval.errors import ConfigError

pytestmark = pytest.mark.usefixtures("small_parts")


@pytest.mark.parametrize("scale", [0.4, 1.0, 1.5])
def test_every_patch_of_every_tile_is_a_row(
    labelled_folder: Callable[..., Dataset], tiny_recipe: Callable[..., Recipe], tmp_path: Path, scale: float
) -> None:
    dataset = labelled_folder(3)
    recipe = tiny_recipe(f"image.scale={scale}", "bank.max_patches=null", "index.engine=exact")
    report = build_index(dataset, tmp_path / "x.index", recipe=recipe)
    labels, patches = (np.load(tmp_path / "x.index" / f"{name}.npy") for name in ("labels", "patches"))
    records = read_images(tmp_path / "x.index")
    assert [record.box for record in records] == [None] * 3 and report.rows == len(patches)
    assert len({tuple(place) for place in patches.tolist()}) == len(patches)
    with open_index(tmp_path / "x.index") as index:
        assert index.manifest.recipe["image"]["scale"] == scale
        extractor = open_extractor(tmp_path / "x.index", index.manifest)
        for number, sample in enumerate(dataset.samples):
            image, columns = dataset.read(sample)
            grid = TiledGrid(lay_tiles(image.shape[:2], (48, 64), scale=scale), (16, 16))
            mine = np.flatnonzero(patches[:, 0] == number)
            for tile, geometry in enumerate(grid.tiling.geometries()):
                vectors = extractor.extract(extractor.prepare(*see(ArrayReader(image), geometry))[0][None])[0]
                row, col = divmod(tile, grid.tiling.counts[1])
                here = mine[(patches[mine, 1] // 3 == row) & (patches[mine, 2] // 4 == col)]
                inner = patches[here, 1] % 3 * 4 + patches[here, 2] % 4
                found = index.search(vectors.numpy()[inner], 4)
                for place, ids, near in zip(here, found.ids, found.similarities, strict=True):
                    assert place in ids[near > near[0] - 1e-3], "each patch finds itself"
            for place in mine[::5]:
                top, left, bottom, right = grid.patch_box(*patches[place, 1:].tolist())
                rows, cols = np.arange(68) + 0.5, np.arange(95) + 0.5
                seen = columns[(rows >= top) & (rows < bottom)][:, (cols >= left) & (cols < right)]
                share = [(seen == c).sum() / max((seen >= 0).sum(), 1) for c in range(3)]
                np.testing.assert_allclose(labels[place] / 255, share, atol=0.003)
    labelled = sum((dataset.read(sample)[1] >= 0).sum() for sample in dataset.samples)
    assert report.rows * (16 / scale) ** 2 > labelled, "all that is labelled is in some patch"


def test_shifted_rows_are_labelled_where_they_lie(
    labelled_folder: Callable[..., Dataset], tiny_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    dataset = labelled_folder(2)
    settings = ("image.scale=1.5", "bank.shifts=2", "features.kind=embeddings")
    recipe = tiny_recipe(*settings, "bank.max_patches=null", "index.engine=exact")
    report = build_index(dataset, tmp_path / "x.index", recipe=recipe)
    labels, patches = (np.load(tmp_path / "x.index" / f"{name}.npy") for name in ("labels", "patches"))
    assert report.rows == len({tuple(place) for place in patches.tolist()}) == len(labels)
    assert {(row % 2, col % 2) for row, col in patches[:, 1:].tolist()} == {(0, 0), (0, 1), (1, 0), (1, 1)}
    for number, sample in enumerate(dataset.samples):
        image, columns = dataset.read(sample)
        grid = TiledGrid(lay_tiles(image.shape[:2], (48, 64), scale=1.5), (16, 16), 2)
        for place in np.flatnonzero(patches[:, 0] == number)[::5]:
            top, left, bottom, right = grid.patch_box(*patches[place, 1:].tolist())
            rows, cols = np.arange(68) + 0.5, np.arange(95) + 0.5
            seen = columns[(rows >= top) & (rows < bottom)][:, (cols >= left) & (cols < right)]
            share = [(seen == c).sum() / max((seen >= 0).sum(), 1) for c in range(3)]
            np.testing.assert_allclose(labels[place] / 255, share, atol=0.003)


def test_tiles_share_the_images_limit_and_batches_change_nothing(
    labelled_folder: Callable[..., Dataset],
    tiny_recipe: Callable[..., Recipe],
    tmp_path: Path,
    content: Callable[[Path], dict[str, bytes]],
) -> None:
    dataset = labelled_folder(5)
    for name, size in (("a", 1), ("b", 3)):
        recipe = tiny_recipe("image.scale=1.5", "bank.max_patches=70", f"runtime.batch_size={size}")
        assert build_index(dataset, tmp_path / name, recipe=recipe).rows == 5 * 14
    names = ("labels.npy", "patches.npy", "images.jsonl")
    one, other = content(tmp_path / "a"), content(tmp_path / "b")
    assert [one[name] for name in names] == [other[name] for name in names]


@pytest.mark.parametrize("setting", ["bank.epochs=2", "bank.augmentation=hummingbird"])
def test_what_does_not_go_with_a_scale_is_refused(
    labelled_folder: Callable[..., Dataset], tiny_recipe: Callable[..., Recipe], setting: str
) -> None:
    with pytest.raises(ConfigError, match=r"leave image\.scale empty"):
        tiny_recipe("image.scale=1.5", setting)
    with pytest.raises(ConfigError, match=r"leave it empty"):
        tiny_recipe("image.scale=1.5", "features.level=image")


def test_comparisons_of_single_inputs_refuse_a_scale(
    labelled_folder: Callable[..., Dataset], tiny_extractor: Callable[..., object]
) -> None:
    dataset = labelled_folder(1)
    with pytest.raises(ConfigError, match=r"image\.scale=1\.5 may cut images into tiles"):
        prepare_job(tiny_extractor("image.scale=1.5"), dataset, BankJob(0, 0, dataset.samples[0]))  # type: ignore[arg-type]
