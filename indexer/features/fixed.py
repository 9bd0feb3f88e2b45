"""The fixed random matrices of a recipe, from its seed: heads of the objectives, and the projection."""

from __future__ import annotations

import torch
from torch import Tensor

from indexer.features.backbone import Backbone
from indexer.features.objectives import Objective, create_objectives
from indexer.features.projection import signs
from indexer.recipe import Recipe
from retrieval.errors import ConfigError


def patch_objectives(recipe: Recipe) -> tuple[Objective, ...]:
    """The recipe's objectives; none where no gradient is taken. Raises ConfigError for one of images only."""
    if not recipe.uses_gradients:
        return ()
    objectives = create_objectives(recipe.objective)
    for objective in objectives:
        if not objective.of_patches:
            raise ConfigError(
                f"the objective {objective.name} compares crops of a whole image and has none of patches; "
                "take objective.kind=infonce, kl or [infonce,kl], or features.level=image"
            )
    return objectives


def random_tensors(recipe: Recipe, backbone: Backbone) -> dict[str, Tensor]:
    """Head and projection, from the seed; nothing for plain embeddings."""
    if not recipe.uses_gradients:
        return {}
    tensors: dict[str, Tensor] = {}
    for objective in patch_objectives(recipe):
        tensors |= objective.random_tensors(backbone.width, recipe.seed)
    if recipe.features.kind == "fungi":
        tensors |= random_projection(recipe, backbone)
    return tensors


def random_projection(recipe: Recipe, backbone: Backbone) -> dict[str, Tensor]:
    """The matrices of ``features.projection``, one for all objectives as published: u and v, or p."""
    features, width = recipe.features, backbone.width
    generator = torch.Generator().manual_seed(recipe.seed)
    # the stream goes on behind the head of InfoNCE, as in the first indexes: same seed, same rows
    torch.rand(recipe.objective.infonce.head_width * (width + 1), generator=generator)
    tensors: dict[str, Tensor] = {}
    weight, bias = backbone.projection
    inputs = weight.shape[1] + (bias is not None)
    rows = features.projection_width or width
    if features.projection == "factored":
        tensors["u"] = signs(rows, width, generator=generator)
        tensors["v"] = signs(rows, inputs, generator=generator)
    elif features.projection == "dense":
        tensors["p"] = signs(rows, width * inputs, generator=generator)
    return tensors
