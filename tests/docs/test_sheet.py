"""The sheet of similar scenes can be made again; with a tiny model, so that only its making is tested."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from PIL import Image

from indexer import load_recipe


def test_it_can_be_made(tmp_path: Path, tiny_recipes: Path, docs_script: Callable[[str], ModuleType]) -> None:
    recipe = load_recipe("offline.yaml", ["index.engine=exact", "features.kind=embeddings"])
    made = docs_script("make_sheet").make_sheet(tmp_path / "made.png", recipe)
    with Image.open(made) as picture:
        assert picture.width > 800


def test_scenes_of_a_class_differ(docs_script: Callable[[str], ModuleType]) -> None:
    script = docs_script("make_sheet")
    first, second = (script.random_scene("car", seed) for seed in (0, 2))
    assert first != second and first.cars and not script.random_scene("field", 1).cars


def test_it_is_small(root: Path) -> None:
    assert (root / "docs" / "similar.png").stat().st_size < 300_000
