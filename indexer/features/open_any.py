"""The extractor of a recipe or an index, of patches or of whole images."""

from __future__ import annotations

from pathlib import Path

from indexer.features.fungi import FungiExtractor, open_extractor
from indexer.features.pooled import ImageExtractor, open_image_extractor
from indexer.recipe import Recipe, RuntimeSettings
from retrieval.store.manifest import Manifest

#: What makes vectors: one for each patch, or one for a whole image.
AnyExtractor = FungiExtractor | ImageExtractor


def create_extractor(recipe: Recipe) -> AnyExtractor:
    """An extractor of the recipe's level, not fitted yet; raises ConfigError and WeightsError."""
    return ImageExtractor.create(recipe) if recipe.whole else FungiExtractor.create(recipe)


def open_any_extractor(
    folder: Path, manifest: Manifest, *, runtime: RuntimeSettings | None = None
) -> AnyExtractor:
    """The extractor that made the vectors of the index in ``folder``, as its manifest says.

    Raises IndexMismatchError where the weights that are there now are not those of the index.
    """
    whole = manifest.recipe.get("features", {}).get("level") == "image"
    return (open_image_extractor if whole else open_extractor)(folder, manifest, runtime=runtime)
