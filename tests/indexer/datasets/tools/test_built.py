"""An index of labels that a tool wrote, and a stopped build whose file has changed meanwhile."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest

from indexer import build_index
from indexer.datasets import load_dataset
from indexer.recipe import Recipe
from retrieval import open_index

MakeImage = Callable[..., Path]


def write(root: Path, right_edge: int) -> None:
    """Six images, on each a box over the left half; on the first one up to another column."""
    edges = [right_edge, *[32] * 5]
    data = {
        "images": [{"id": n, "file_name": f"{n}.png", "height": 48, "width": 64} for n in range(6)],
        "annotations": [
            {"image_id": n, "category_id": 4, "segmentation": [[0, 0, edge, 0, edge, 48, 0, 48]]}
            for n, edge in enumerate(edges)
        ],
        "categories": [{"id": 4, "name": "cat"}],
    }
    (root / "result.json").write_text(json.dumps(data))


def test_only_the_changed_image_is_described_anew(
    tmp_path: Path,
    picture: MakeImage,
    tiny_recipe: Callable[..., Recipe],
    small_parts: None,
    count_parts: Callable[[], list[int]],
    stop_after: Callable[[int], AbstractContextManager[None]],
) -> None:
    pytest.importorskip("pycocotools")
    root, out = tmp_path / "data", tmp_path / "out.index"
    for number in range(6):
        picture(root / "images" / f"{number}.png", 48, 64)
    write(root, 32)
    recipe = tiny_recipe("bank.max_patches=null", "index.engine=exact")
    with stop_after(2):
        build_index(load_dataset(root), out, recipe=recipe)
    write(root, 64)
    computed = count_parts()
    build_index(load_dataset(root), out, recipe=recipe)
    assert sorted(computed) == [0, 2]  # the part of the changed image, and the one that was not done
    with open_index(out) as index:
        assert index.classes.names == ("background", "cat")
    labels, patches = np.load(out / "labels.npy"), np.load(out / "patches.npy")
    assert (labels[patches[:, 0] == 0] == [0, 255]).all()
    assert {tuple(row) for row in labels[patches[:, 0] == 1].tolist()} == {(0, 255), (255, 0)}
