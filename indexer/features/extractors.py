"""The extractor of a recipe, of patches or of whole images."""

from __future__ import annotations

from indexer.features.fungi import FungiExtractor
from indexer.features.pooled import ImageExtractor
from indexer.recipe import Recipe

#: What makes vectors: one for each patch, or one for a whole image.
AnyExtractor = FungiExtractor | ImageExtractor


def create_extractor(recipe: Recipe) -> AnyExtractor:
    """An extractor of the recipe's level, not fitted yet; raises ConfigError and WeightsError."""
    return ImageExtractor.create(recipe) if recipe.whole else FungiExtractor.create(recipe)
