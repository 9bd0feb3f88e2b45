"""What tuning tries for patches: vectors, settings made of them, and the values of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from indexer.recipe import Recipe, override_recipe
from retrieval.errors import ConfigError
from segmentation.tuning.candidates import check_blocks, check_values, choose_values

#: Tried unless the caller says otherwise; a weight of 0 means plain embeddings.
WEIGHTS, KS = (0.0, 0.25, 0.5, 1.0), (10, 30, 90)
#: Temperatures of plain vectors, and of those that went through a metric, whose similarities spread.
TEMPERATURES, SPREAD_TEMPERATURES = (0.01, 0.02, 0.04, 0.1), (0.02, 0.03, 0.06, 0.1)
METRICS, SHRINKAGES = ("none", "whiten", "class"), (0.1, 0.3)
#: Widths of a metric, in shares of the embedding's.
WIDTH_SHARES = (1 / 6, 1 / 3, 1 / 2)
SHIFTS, REFINES = (1, 2), ("none", "guided")


@dataclass(frozen=True, order=True)
class Reduction:
    """What joined vectors go through: a metric, or the base recipe's PCA, or nothing."""

    kind: str = "none"
    """none, pca, whiten or class."""
    width: int = 0
    """Numbers that are kept; 0: all."""
    shrinkage: float = 0.0
    """Of a metric."""
    whiten: str = "none"
    """Of a PCA."""

    def overrides(self) -> list[str]:
        """As ``key=value``."""
        pca, metric, width = "null", "none", "null"
        if self.kind == "pca":
            pca = str(self.width)
        elif self.kind != "none":
            metric, width = self.kind, str(self.width) if self.width else "null"
        shrinkage = [f"features.shrinkage={self.shrinkage!r}"] if metric != "none" else []
        return [
            f"features.pca={pca}", f"features.whiten={self.whiten}", f"features.metric={metric}",
            f"features.width={width}", *shrinkage,
        ]  # fmt: skip

    def __str__(self) -> str:
        if self.kind == "none":
            return "none"
        width = f" {self.width}" if self.width else ""
        return f"{self.kind}{width}" + (f", {self.shrinkage:g}" if self.kind != "pca" else "")


NO_REDUCTION = Reduction()


@dataclass(frozen=True, order=True)
class Vector:
    """What patches are compared by."""

    block: int
    weight: float
    reduction: Reduction = NO_REDUCTION

    @property
    def features(self) -> str:
        """For a table: what a patch's vector is made of."""
        return f"fungi, weight {self.weight:g}" if self.weight else "embeddings"


@dataclass(frozen=True, order=True)
class Setting:
    """One thing to try; weight 0 means plain embeddings."""

    block: int
    weight: float
    k: int
    temperature: float
    reduction: Reduction = NO_REDUCTION
    shifts: int = 1
    refine: str = "none"

    @property
    def vector(self) -> Vector:
        """What its patches are compared by."""
        return Vector(self.block, self.weight, self.reduction)

    @property
    def features(self) -> str:
        """For a table: what a patch's vector is made of."""
        return self.vector.features

    def apply(self, recipe: Recipe) -> Recipe:
        """The recipe with this setting; it neither re-ranks nor mirrors."""
        features = ["features.kind=embeddings"]
        if self.weight:
            features = ["features.kind=fungi", f"features.gradient_weight={self.weight!r}"]
        transfer = [
            f"transfer.k={self.k}", f"transfer.temperature={self.temperature!r}",
            f"transfer.refine={self.refine}", f"image.shifts={self.shifts}",
            "image.flip=false", "rerank.candidates=null",
        ]  # fmt: skip
        changes = [f"backbone.block={self.block}", *features, *self.reduction.overrides(), *transfer]
        return override_recipe(recipe, changes)


@dataclass(frozen=True)
class Candidates:
    """What to try; None: the last third of the blocks, or the defaults, and the base recipe's own value."""

    blocks: Sequence[int] | None = None
    weights: Sequence[float] | None = None
    ks: Sequence[int] | None = None
    temperatures: Sequence[float] | None = None
    metrics: Sequence[str] | None = None
    widths: Sequence[int] | None = None
    shrinkages: Sequence[float] | None = None
    shifts: Sequence[int] | None = None
    refines: Sequence[str] | None = None

    def grid(self, recipe: Recipe, *, blocks: int, block: int, width: int) -> Grid:
        """The values to try; ``blocks`` of the model, ``block`` of the recipe, ``width`` of an embedding.

        Raises ConfigError for a block that the model lacks or a value out of range.
        """
        transfer, base = recipe.transfer, reduction_of(recipe)
        last_third = range(blocks - max(1, round(blocks / 3)), blocks)
        chosen = choose_values(self.blocks, last_third, block)
        weights = choose_values(self.weights, WEIGHTS, weight_of(recipe))
        ks = choose_values(self.ks, KS, transfer.k)
        plain = self.temperatures or TEMPERATURES
        spread = self.temperatures or SPREAD_TEMPERATURES
        if self.temperatures is None:
            (plain, spread) = (
                (*plain, transfer.temperature) if base.kind in ("none", "pca") else plain,
                (*spread, transfer.temperature) if base.kind != "none" else spread,
            )
        metrics = list(dict.fromkeys(self.metrics or METRICS))
        widths = sorted(set(self.widths or [max(1, round(width * share)) for share in WIDTH_SHARES]))
        shrinkages = sorted(set(self.shrinkages if self.shrinkages is not None else SHRINKAGES))
        check_blocks(chosen, blocks, recipe)
        check_values({"weights": (weights, 0), "k": (ks, 1), "widths": (widths, 1)}, [*plain, *spread])
        _check_words(metrics, METRICS, "--metrics")
        _check_words(self.refines or REFINES, REFINES, "--refine")
        if min(shrinkages) < 0 or max(shrinkages) > 1:
            raise ConfigError(f"--shrinkage has to be from 0 to 1, not {shrinkages}")
        shifts = sorted({1, *(SHIFTS if self.shifts is None else self.shifts)})
        if not set(shifts) <= {1, 2, 4}:
            raise ConfigError(f"--shifts should be of 1, 2 and 4, not {shifts}")
        return Grid(
            tuple(int(b) for b in chosen),
            tuple(weights),
            tuple(int(k) for k in ks),
            tuple(sorted(set(plain))),
            tuple(sorted(set(spread))),
            tuple(_star(metrics, widths, shrinkages, base if self.metrics is None else NO_REDUCTION)),
            tuple(shifts),
            tuple(dict.fromkeys(self.refines or REFINES)),
        )


@dataclass(frozen=True)
class Grid:
    """The values of each setting; what is tried together is decided round by round."""

    blocks: tuple[int, ...]
    weights: tuple[float, ...]
    ks: tuple[int, ...]
    temperatures: tuple[float, ...]
    spread: tuple[float, ...]
    """Temperatures of vectors that went through a metric or a PCA."""
    reductions: tuple[Reduction, ...]
    """``none`` where it is tried, then the middle of the metrics, then one value changed at a time."""
    shifts: tuple[int, ...]
    refines: tuple[str, ...]

    @property
    def centre(self) -> Reduction | None:
        """The metric that stands for all where only one is tried."""
        return next((found for found in self.reductions if found.kind != "none"), None)

    @property
    def middle_weight(self) -> float | None:
        """The gradient weight that stands for all, None where none is tried."""
        positive = [weight for weight in self.weights if weight]
        return positive[len(positive) // 2] if positive else None

    def of(self, vector: Vector) -> list[Setting]:
        """The vector with every k and T."""
        temperatures = self.temperatures if vector.reduction.kind == "none" else self.spread
        return [
            Setting(vector.block, vector.weight, k, t, vector.reduction)
            for k in self.ks for t in temperatures
        ]  # fmt: skip

    def has(self, setting: Setting) -> bool:
        """Whether every value of a setting is among those to try."""
        return (
            setting.vector.block in self.blocks
            and setting.weight in self.weights
            and setting.reduction in self.reductions
            and replace(setting, shifts=1, refine="none") in self.of(setting.vector)
            and setting.shifts in self.shifts
            and setting.refine in self.refines
        )


def weight_of(recipe: Recipe) -> float:
    """The recipe's gradient weight, 0 for plain embeddings."""
    return recipe.features.gradient_weight if recipe.features.kind == "fungi" else 0.0


def reduction_of(recipe: Recipe) -> Reduction:
    """What the recipe's vectors go through; a share that would have to be estimated counts as 0.1."""
    features = recipe.features
    if features.pca is not None:
        return Reduction("pca", features.pca, whiten=features.whiten)
    if features.metric == "none":
        return NO_REDUCTION
    share = features.shrinkage if isinstance(features.shrinkage, float) else SHRINKAGES[0]
    return Reduction(features.metric, features.width or 0, share)


def _star(
    metrics: Sequence[str], widths: Sequence[int], shrinkages: Sequence[float], base: Reduction
) -> list[Reduction]:
    """``none``, the middle of the rest, and what differs from the middle in one value; then ``base``."""
    found = [NO_REDUCTION] if "none" in metrics else []
    kinds = [kind for kind in ("class", "whiten") if kind in metrics]
    if kinds:
        centre = Reduction(kinds[0], widths[len(widths) // 2], shrinkages[0])
        found += [
            centre,
            *(replace(centre, width=width) for width in widths),
            *(replace(centre, shrinkage=share) for share in shrinkages),
            *(replace(centre, kind=kind) for kind in kinds),
        ]
    return list(dict.fromkeys([*found, base] if base.kind != "none" else found))


def _check_words(given: Sequence[str], known: Sequence[str], option: str) -> None:
    unknown = [word for word in given if word not in known]
    if unknown:
        raise ConfigError(f"{option} {unknown[0]!r} is not known; take of {', '.join(known)}")
