"""What may be tried for whole images: which objectives join the embedding, and how the neighbours vote."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from indexer.objective_settings import NAMES
from indexer.recipe import Recipe, override_recipe
from retrieval.errors import ConfigError
from segmentation.tuning.candidates import check_blocks, check_values, choose_values

#: Objectives that are joined, unless the caller says otherwise; none means the embedding alone.
OBJECTIVES: tuple[tuple[str, ...], ...] = ((), ("kl",), ("kl", "dino"), ("kl", "dino", "infonce"))
#: Those of texts and recordings, which have no crops.
OBJECTIVES_OF_OTHERS: tuple[tuple[str, ...], ...] = ((), ("kl",), ("kl", "infonce"))
#: Gradient weights, times the number of objectives: 1 is the papers' form.
SCALES = (0.25, 0.5, 1.0, 2.0)
KS, TEMPERATURES = (1, 5, 10, 20, 30), (0.02, 0.05, 0.1)
#: What stands for the embedding alone in a list of objectives.
NONE = "none"


@dataclass(frozen=True)
class ImageFeatures:
    """What an image's vector is made of; without objectives the weight is 0."""

    block: int
    objectives: tuple[str, ...]
    weight: float
    pca: int | None
    shares: tuple[float, ...] = field(default=(), repr=False)
    """How much each objective counts; they sum to 1."""

    @property
    def described(self) -> str:
        """For a table."""
        names = " + ".join(("embeddings", *self.objectives))
        weight = f", weight {self.weight:g}" if self.objectives else ""
        return names + weight + (f", PCA {self.pca}" if self.pca else "")


@dataclass(frozen=True)
class ImageSetting:
    """One thing to try."""

    features: ImageFeatures
    k: int
    temperature: float

    def apply(self, recipe: Recipe) -> Recipe:
        """The recipe with this setting."""
        features = self.features
        overrides = [
            f"backbone.block={features.block}",
            f"features.pca={json.dumps(features.pca)}",
            f"transfer.k={self.k}",
            f"transfer.temperature={self.temperature!r}",
        ]
        if not features.objectives:
            return override_recipe(recipe, ["features.kind=embeddings", *overrides])
        kind = json.dumps(features.objectives)
        own = features.objectives == recipe.objective.kind
        weights = recipe.objective.weights if own else None
        return override_recipe(
            recipe,
            [
                "features.kind=fungi",
                f"features.gradient_weight={features.weight!r}",
                f"objective.kind={kind}",
                f"objective.weights={json.dumps(weights)}",
                *overrides,
            ],
        )


@dataclass(frozen=True)
class ImageCandidates:
    """What to try; None: the defaults and the base recipe's own value, for the block that alone.

    The embedding alone is always tried: it is what the others have to beat. A PCA of 0 means none.
    """

    objectives: Sequence[tuple[str, ...]] | None = None
    blocks: Sequence[int] | None = None
    weights: Sequence[float] | None = None
    ks: Sequence[int] | None = None
    temperatures: Sequence[float] | None = None
    pca: Sequence[int] | None = None

    def settings(self, recipe: Recipe, *, blocks: int, block: int) -> list[ImageSetting]:
        """Every combination, block by block; ``blocks`` of the model, ``block`` of the recipe.

        Raises ConfigError for a block that the model lacks or a value out of range.
        """
        transfer = recipe.transfer
        chosen = choose_values(self.blocks, (block,), block)
        ks = choose_values(self.ks, KS, transfer.k)
        temperatures = choose_values(self.temperatures, TEMPERATURES, transfer.temperature)
        widths = choose_values(self.pca, (0,), recipe.features.pca or 0)
        check_blocks(chosen, blocks, recipe)
        check_values({"weights": (self.weights or (), 0), "k": (ks, 1), "pca": (widths, 0)}, temperatures)
        joined = self.joined(recipe)
        return [
            ImageSetting(
                ImageFeatures(int(b), names, weight, int(width) or None, shares_of(names, recipe)), int(k), t
            )
            for b in chosen for names in joined for weight in self._weights(names, recipe)
            for width in widths for k in ks for t in temperatures
        ]  # fmt: skip

    def joined(self, recipe: Recipe) -> list[tuple[str, ...]]:
        """The sets of objectives to try, the embedding alone first; each once, in the recipe's order."""
        own = recipe.objective.kind
        usual = OBJECTIVES if recipe.backbone.kind == "image" else OBJECTIVES_OF_OTHERS
        default = (*usual, own) if recipe.features.kind == "fungi" else usual
        asked = default if self.objectives is None else self.objectives
        found: dict[frozenset[str], tuple[str, ...]] = {frozenset(): ()}
        for names in asked:
            found.setdefault(frozenset(names), own if set(names) == set(own) else tuple(names))
        return list(found.values())

    def _weights(self, names: tuple[str, ...], recipe: Recipe) -> list[float]:
        if not names:
            return [0.0]
        if self.weights is not None:
            return sorted({weight for weight in self.weights if weight > 0})
        scaled = [scale * len(names) for scale in SCALES]
        own = recipe.features.kind == "fungi" and names == recipe.objective.kind
        return sorted({*scaled, *([recipe.features.gradient_weight] if own else [])})


def own_setting(recipe: Recipe, block: int) -> ImageSetting:
    """What the recipe says, with ``block`` counted from the first."""
    features, transfer = recipe.features, recipe.transfer
    names = recipe.objective.kind if features.kind == "fungi" else ()
    weight = features.gradient_weight if names else 0.0
    own = ImageFeatures(block, names, weight, features.pca, shares_of(names, recipe))
    return ImageSetting(own, transfer.k, transfer.temperature)


def shares_of(names: tuple[str, ...], recipe: Recipe) -> tuple[float, ...]:
    """How much each objective counts: as the recipe says where it has the same, else evenly."""
    if names and names == recipe.objective.kind:
        return recipe.objective.shares
    return (1 / len(names),) * len(names) if names else ()


def parse_objectives(text: str) -> list[tuple[str, ...]]:
    """``kl,kl+dino,none`` as sets of objectives; raises ConfigError for an unknown or doubled name."""
    found: list[tuple[str, ...]] = []
    for part in text.split(","):
        names = tuple(name.strip() for name in part.split("+"))
        if names == (NONE,):
            found.append(())
            continue
        for name in names:
            if name not in NAMES and ":" not in name:
                raise ConfigError(
                    f"--objectives {text!r}: there is no objective {name!r}; give {', '.join(NAMES)} or "
                    f"{NONE}, joined by +, with commas between: kl,kl+dino"
                )
        if len(set(names)) < len(names):
            raise ConfigError(f"--objectives {text!r}: {part} names an objective twice; name each once")
        found.append(names)
    return found
