"""What ``import indexer`` promises."""

from __future__ import annotations

import indexer


def test_exported_names_are_there() -> None:
    assert sorted(indexer.__all__) == indexer.__all__
    assert all(getattr(indexer, name).__doc__ for name in indexer.__all__)
    assert {"build_index", "open_extractor", "load_dataset", "load_recipe", "default_recipe_path"} <= set(
        indexer.__all__
    )
