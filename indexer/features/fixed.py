"""The fixed random matrices of a recipe, from its seed: heads of the objectives, and the projection."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from indexer.features.cut import CutModel
from indexer.features.objectives import Objective
from indexer.features.projection import signs
from indexer.recipe import Recipe


def random_tensors(objectives: Sequence[Objective], recipe: Recipe, backbone: CutModel) -> dict[str, Tensor]:
    """Heads and projection, from the seed; nothing without objectives."""
    if not objectives:
        return {}
    tensors: dict[str, Tensor] = {}
    for objective in objectives:
        tensors |= objective.random_tensors(backbone.width, recipe.seed)
    if recipe.features.kind == "fungi":
        tensors |= _projection(recipe, backbone)
    return tensors


def _projection(recipe: Recipe, backbone: CutModel) -> dict[str, Tensor]:
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
