"""What ``features.level: auto`` means for a data set."""

from __future__ import annotations

import logging

from indexer.datasets import Dataset
from indexer.defaults import RECIPES
from indexer.features.backbone import patch_size_of
from indexer.kinds import NOUNS
from indexer.recipe import Recipe
from retrieval.errors import ConfigError

#: Side of the square, in pixels, at which whole images are described unless the recipe says.
WHOLE_SIZE = 224

_LOG = logging.getLogger("mycelia")


def resolve_level(recipe: Recipe, dataset: Dataset) -> Recipe:
    """The recipe with a fixed ``features.level``: of whole images where the data set's labels are.

    Texts and recordings are always whole. Whole images take an ``image.size`` of about
    :data:`WHOLE_SIZE` where that is auto; says which settings they ignore. Raises ConfigError for patches
    of images without masks, and for a backbone that sees something else than the data set holds.
    """
    if dataset.kind != recipe.backbone.kind:
        raise ConfigError(
            f"{dataset.name} holds {NOUNS[dataset.kind]}s, but backbone.kind={recipe.backbone.kind} sees "
            f"{NOUNS[recipe.backbone.kind]}s; choose another recipe, for example --config "
            f"{RECIPES[dataset.kind][1]}"
        )
    level = recipe.features.level
    if level == "auto":
        level = "image" if dataset.whole else "patch"
        if level == "image" and dataset.kind == "image":
            _LOG.info("features.level: auto takes image: the images of %s have a class each", dataset.name)
    if level == "patch" and dataset.whole:
        raise ConfigError(
            f"{dataset.name} says the class of whole images, and features.level=patch needs masks; "
            "drop the setting, or take features.level=image"
        )
    data = recipe.model_dump(mode="json")
    data["features"]["level"] = level
    if level == "image" and dataset.kind == "image" and recipe.image.size == "auto":
        patch = patch_size_of(recipe.backbone.model)
        data["image"]["size"] = [max(1, round(WHOLE_SIZE / side)) * side for side in patch]
    resolved = Recipe.model_validate(data)
    if resolved.ignored:
        _LOG.warning("%s: of patches alone, and ignored for whole images", ", ".join(resolved.ignored))
    return resolved
