"""What may be tried: the values that were given or the defaults, and their limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from indexer.features.cut import CutModel
from indexer.features.extractors import whole_extractor
from indexer.features.fungi import FungiExtractor
from indexer.recipe import Recipe
from retrieval.errors import ConfigError


def choose_values(given: Sequence[float] | None, default: Sequence[float], base: float) -> list[float]:
    """The values to try, sorted: those given, else the defaults and the base recipe's own."""
    return sorted(set(given)) if given is not None else sorted({*default, base})


def model_of(recipe: Recipe) -> CutModel:
    """The recipe's model; raises ConfigError for joined blocks, which tuning does not compare."""
    if recipe.backbone.blocks:
        raise ConfigError(
            f"tuning compares single blocks, and backbone.blocks={list(recipe.backbone.blocks)} joins some; "
            "leave it empty, and add it to the tuned recipe if you want"
        )
    return (whole_extractor(recipe) if recipe.whole else FungiExtractor).load_model(recipe)


def blocks_of(recipe: Recipe) -> tuple[int, int]:
    """How many blocks the model has, and which the recipe means."""
    model = model_of(recipe)
    return model.blocks, model.block


def check_blocks(chosen: Sequence[float], blocks: int, recipe: Recipe) -> None:
    """Raise ConfigError for a block that the model, of so many, lacks."""
    for number in chosen:
        if not 0 <= number < blocks:
            raise ConfigError(
                f"--blocks {number} does not exist: {recipe.backbone.model} has blocks 0 to {blocks - 1}"
            )


def check_values(least: Mapping[str, tuple[Sequence[float], float]], temperatures: Sequence[float]) -> None:
    """Raise ConfigError for values, by their option, below its least, or a temperature not above 0."""
    for name, (values, bound) in least.items():
        if values and min(values) < bound:
            raise ConfigError(f"--{name} {min(values)} is too small; give numbers from {bound} up")
    if min(temperatures) <= 0:
        raise ConfigError(f"--temperatures {min(temperatures)} has to be above 0 (0.02 is usual)")
