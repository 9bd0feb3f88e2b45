"""The README's picture can be made again; with a tiny model here, so that only its making is tested."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
from PIL import Image

from indexer import load_recipe


def test_it_can_be_made(tmp_path: Path, tiny_recipes: Path, docs_script: Callable[[str], ModuleType]) -> None:
    recipe = load_recipe("offline.yaml", ["index.engine=exact"])
    made = docs_script("make_picture").make_picture(tmp_path / "made.png", recipe)
    with Image.open(made) as picture:
        assert picture.width > 1000


def test_scenes_hold_every_class_and_differ(docs_script: Callable[[str], ModuleType]) -> None:
    script = docs_script("make_picture")
    (memory, labels), (query, truth) = script.draw_scene(script.MEMORY), script.draw_scene(script.QUERY)
    assert memory.shape == query.shape == (*script.SIZE, 3)
    for mask in (labels, truth):
        assert set(np.unique(mask)) == set(range(len(script.CLASSES)))
    assert (labels != truth).mean() > 0.2
    assert truth[script.ASKED] == script.CAR


def test_it_is_small(root: Path) -> None:
    assert (root / "docs" / "how-it-works.png").stat().st_size < 300_000
