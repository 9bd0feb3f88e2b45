"""The extractor of a recipe: of patches, or of whole images, texts or recordings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from indexer.features.fungi import FungiExtractor
from indexer.features.whole.base import WholeExtractor
from indexer.features.whole.images import ImageExtractor
from indexer.recipe import Recipe, RuntimeSettings, built_recipe
from retrieval.store.manifest import Manifest

#: What makes vectors: one for each patch, or one for a whole input.
AnyExtractor = FungiExtractor | WholeExtractor[Any]


def create_extractor(recipe: Recipe) -> AnyExtractor:
    """An extractor of the recipe's level, not fitted yet; raises ConfigError and WeightsError."""
    return whole_extractor(recipe).create(recipe) if recipe.whole else FungiExtractor.create(recipe)


def open_whole(
    folder: Path, manifest: Manifest, *, runtime: RuntimeSettings | None = None
) -> WholeExtractor[Any]:
    """The extractor of an index of whole inputs, as :meth:`StoredExtractor.open`."""
    kind = whole_extractor(built_recipe(manifest.recipe, folder))
    return kind.open(folder, manifest, runtime=runtime)


def whole_extractor(recipe: Recipe) -> type[WholeExtractor[Any]]:
    """The class that describes whole inputs of the recipe's kind."""
    if recipe.backbone.kind == "text":
        from indexer.features.whole.texts import TextExtractor

        return TextExtractor
    if recipe.backbone.kind == "audio":
        from indexer.features.whole.recordings import RecordingExtractor

        return RecordingExtractor
    return ImageExtractor
