"""What ``image.size: auto`` means for a data set, and whether a fixed size fits its images."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from indexer.datasets import Sample
from indexer.features.backbone import patch_size_of
from indexer.images.decode import read_shape
from indexer.images.size import ChosenSize, Size, aspect_gap, choose_size, is_long, own_size
from indexer.recipe import ImageSettings, Recipe
from retrieval.errors import ImageError

#: Images whose shapes are looked at, evenly spread over a data set.
LOOKED_AT = 200

_LOG = logging.getLogger("mycelia")


def resolve_size(recipe: Recipe, samples: Sequence[Sample]) -> Recipe:
    """The recipe with a fixed ``image.size``; says what ``auto`` chose and why, or that a size fits badly.

    Looks into the headers of up to :data:`LOOKED_AT` images; those that cannot be read are left out.
    Raises ConfigError for an unknown model.
    """
    shapes = shapes_of(samples)
    if recipe.image.size != "auto":
        warn_of_long(shapes, recipe)
        return recipe
    chosen = chosen_size(recipe, shapes)
    height, width = chosen.size
    _LOG.info("image.size: auto takes [%d,%d]: %s", height, width, chosen.reason)
    kept = recipe.image.model_dump(exclude={"size", "auto_size"})
    fixed = recipe.model_copy(update={"image": ImageSettings(size=chosen.size, **kept)})
    warn_of_long(shapes, fixed)
    return fixed


def chosen_size(recipe: Recipe, shapes: Sequence[Size]) -> ChosenSize:
    """What ``image.size: auto`` takes for images of these shapes (height, width); raises ConfigError."""
    return choose_size(shapes, usual=recipe.image.auto_size, patch=patch_size_of(recipe.backbone.model))


def shapes_of(samples: Sequence[Sample]) -> list[Size]:
    """(height, width) of up to :data:`LOOKED_AT` upright images, without decoding them; bad ones left out."""
    step = max(1, -(-len(samples) // LOOKED_AT))
    shapes = []
    for sample in samples[::step]:
        try:
            shapes.append(read_shape(sample.image))
        except ImageError:  # whoever reads it says so
            continue
    return shapes


def warn_of_long(shapes: Sequence[Size], recipe: Recipe) -> None:
    """Say it once where images are much longer or wider than the recipe's fixed size, and what to try."""
    if recipe.image.scale is not None:  # nothing is squashed
        return
    size = recipe.image.fixed_size
    long = [shape for shape in shapes if is_long(shape, size)]
    if not long:
        return
    shape = max(long, key=lambda shape: aspect_gap(shape, size))
    patch = patch_size_of(recipe.backbone.model)
    height, width = own_size(shape, usual=size, patch=patch)
    _LOG.warning(
        "%d of %d images looked at are much longer or wider than image.size [%d,%d], for example %d x %d "
        "(height x width): what is thin in them is lost; try image.size=[%d,%d]%s",
        *(len(long), len(shapes), *size, *shape, height, width),
        " or image.size=auto" if 2 * len(long) > len(shapes) else " in an index of their own",
    )
