"""A metric that knows the labels, in closed form: what tells classes apart counts much, what does not little.

Within-class covariance normalisation, as in speaker recognition (Hatch, Kajarekar and Stolcke, Interspeech
2006); its leading directions are Fisher's discriminants. Shrinkage: Ledoit and Wolf, *A well-conditioned
estimator for large-dimensional covariance matrices* (Journal of Multivariate Analysis 88, 2004).

With vectors X (n, D) minus their mean, and soft labels L (n, C) whose rows sum to one::

    mu = (L'X) / (L'1)      R = X - L mu      S = R'R / n      S <- (1 - a) S + a tr(S)/D I
    f = normalise( (x - mean) S^(-1/2) V ),   V: leading eigenvectors of S^(-1/2) X'X S^(-1/2)

All of it follows from sums over the rows, so that no vector is kept. Everything here is in float64.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from retrieval.classes import ClassMap
from retrieval.errors import REPAIR, ConfigError, DatasetError, IndexDamagedError
from retrieval.store.paths import text_path

Floats = npt.NDArray[np.float64]

#: Of the vectors' mean square (or of the largest variance): what is below is rounding, and no variance.
NO_VARIANCE = 1e-10


@dataclass(frozen=True)
class Metric:
    """A fitted metric: a vector x becomes ``normalise(directions @ (x - mean))``."""

    mean: npt.NDArray[np.float32]
    """(D,)."""
    directions: npt.NDArray[np.float32]
    """(width, D), the leading first."""
    shrinkage: float
    """The share a of the even spread."""
    patches: npt.NDArray[np.float32]
    """L'1, (C,): on how many patches (or whole images) of each class it was fitted, in shares of one."""


class MetricSums:
    """What of labelled vectors decides a metric, summed up block by block."""

    def __init__(self, width: int, classes: int) -> None:
        """For vectors of ``width`` numbers and labels of so many classes; nothing is added yet."""
        self.rows = 0
        self._vectors = np.zeros(width)  # sum x
        self._products = np.zeros((width, width))  # X'X
        self._by_class = np.zeros((classes, width))  # L'X
        self._overlaps = np.zeros((classes, classes))  # L'L
        self.patches = np.zeros(classes)
        """L'1, (C,)."""

    def add(self, vectors: npt.NDArray[Any], shares: npt.NDArray[Any]) -> None:
        """Add vectors (n, D) with their soft labels (n, C), rows of which sum to one."""
        x, labels = np.asarray(vectors, dtype=np.float64), np.asarray(shares, dtype=np.float64)
        self.rows += len(x)
        self._vectors += x.sum(axis=0)
        self._products += x.T @ x
        self._by_class += labels.T @ x
        self._overlaps += labels.T @ labels
        self.patches += labels.sum(axis=0)

    @property
    def mean(self) -> Floats:
        """The mean of all vectors, (D,)."""
        return self._vectors / max(self.rows, 1)

    def total(self) -> Floats:
        """X'X / n of the centred vectors, (D, D)."""
        return self._products / max(self.rows, 1) - np.outer(self.mean, self.mean)

    def class_means(self, kind: str) -> Floats:
        """mu, (C, D), of the centred vectors; zeros for ``whiten``, and for a class without any patch."""
        means = np.zeros_like(self._by_class)
        if kind == "class":
            found = self.patches > 0
            means[found] = self._by_class[found] / self.patches[found, None] - self.mean
        return means

    def within(self, kind: str) -> Floats:
        """S = R'R / n, (D, D), without shrinkage; for ``whiten`` of all vectors, whatever their class."""
        means = self.class_means(kind)
        mixed = (self._by_class - np.outer(self.patches, self.mean)).T @ means  # X'L mu
        summed: Floats = means.T @ self._overlaps @ means - mixed - mixed.T
        return self.total() + summed / max(self.rows, 1)

    def check(self, kind: str, width: int | None) -> None:
        """Raise DatasetError where no metric can be fitted on what was added, ConfigError for one so wide."""
        said = f"features.metric={kind}"
        if self.rows == 0:
            raise DatasetError(
                f"{said} is fitted on labelled patches, and none was found in any image; "
                "check the masks, or choose features.metric=none"
            )
        if kind == "class" and np.count_nonzero(self.patches) < 2:
            raise DatasetError(
                f"{said} tells classes apart, but of {len(self.patches)} only one has labelled patches; "
                "add images with another class, or choose features.metric=whiten or none"
            )
        smallest = NO_VARIANCE * np.trace(self._products) / self.rows
        if np.trace(self.total()) <= smallest:
            raise DatasetError(
                f"{said} needs vectors that differ, and all {self.rows:,} labelled ones are the same; "
                "check the images, or choose features.metric=none"
            )
        if kind == "class" and np.trace(self.within(kind)) <= smallest:
            raise DatasetError(
                f"{said} needs several differing vectors of a class, and within each class all are the same; "
                "add images, or choose features.metric=whiten or none"
            )
        if width is not None and self.rows <= width:
            raise ConfigError(
                f"features.width={width} needs more labelled patches (or images, where they are whole) than "
                f"that, and there are {self.rows}; choose a smaller width or add images"
            )


def fourth_powers(
    vectors: npt.NDArray[Any], shares: npt.NDArray[Any], mean: Floats, class_means: Floats
) -> float:
    """The sum of ``||r||^4`` over the residuals r of vectors (n, D) with soft labels (n, C)."""
    residuals = np.asarray(vectors, dtype=np.float64) - mean - np.asarray(shares) @ class_means
    return float(np.square(np.square(residuals).sum(axis=1)).sum())


def ledoit_wolf(covariance: Floats, fourth_power: float, rows: int) -> float:
    """The share a that makes ``(1 - a) S + a tr(S)/D I`` nearest to the true covariance, 0..1.

    ``covariance`` is S = R'R / rows, (D, D); ``fourth_power`` the mean of ``||r||^4`` over the rows of R,
    which the estimate takes for independent.
    """
    size = np.square(covariance).sum()
    spread = size - np.trace(covariance) ** 2 / len(covariance)  # squared distance of S from the even one
    noise = (fourth_power - size) / rows  # squared distance of S from the true one, estimated
    return 1.0 if spread <= 0 else float(np.clip(noise / spread, 0.0, 1.0))


def fit_metric(sums: MetricSums, *, kind: str, shrinkage: float, width: int | None) -> Metric:
    """The metric of what was summed up: ``class`` or ``whiten`` (S of all vectors, whatever their class).

    ``width`` directions are kept, all where None: the leading eigenvectors V, for ``whiten`` those in which
    the vectors vary most. One in which vectors of a class do not vary at all, which
    only ``shrinkage`` 0 leaves, counts nothing; with 0, no more than C - 1 directions lead the others. Signs
    are fixed, so that the same sums give the same result.
    Raises as :meth:`MetricSums.check`.
    """
    sums.check(kind, width)
    variances, axes = np.linalg.eigh(sums.within(kind))
    variances = (1 - shrinkage) * variances + shrinkage * variances.mean()  # of S, shrunk: its axes stay
    seen = variances > NO_VARIANCE * variances[-1]
    powers = np.zeros_like(variances)
    powers[seen] = variances[seen] ** -0.5
    directions = (axes * powers)[:, ::-1][:, :width].T  # (width, D)
    if kind == "class":  # of all vectors whitened, these are the leading ones already
        whitening = (axes * powers) @ axes.T  # S^(-1/2)
        scatter = whitening @ sums.total() @ whitening
        _, leading = np.linalg.eigh((scatter + scatter.T) / 2)
        directions = (whitening @ leading[:, ::-1][:, :width]).T
    largest = np.take_along_axis(directions, np.abs(directions).argmax(axis=1)[:, None], axis=1)
    directions = directions * np.where(largest < 0, -1.0, 1.0)
    return Metric(
        mean=sums.mean.astype(np.float32),
        directions=directions.astype(np.float32),
        shrinkage=shrinkage,
        patches=sums.patches.astype(np.float32),
    )


def metric_key(fingerprints: Mapping[str, str], classes: ClassMap) -> npt.NDArray[np.uint8]:
    """What a metric belongs to, as a SHA-256, (32,) uint8: the features that it weighs, and the classes."""
    parts = [fingerprints.get(part) for part in ("weights", "preprocessing", "recipe")]
    text = json.dumps([parts, classes.ids.tolist(), classes.names])
    return np.frombuffer(hashlib.sha256(text.encode()).digest(), dtype=np.uint8)


@dataclass(frozen=True)
class MetricFacts:
    """What a stored metric says of itself."""

    kept: int
    """Directions."""
    of: int
    """Numbers of the vectors that it takes."""
    shrinkage: float
    patches: npt.NDArray[np.float32]
    """(C,), as in :class:`Metric`."""

    @property
    def few(self) -> list[int]:
        """Columns of classes with fewer patches than there are directions, the fewest first.

        The mean of so few is noise in most of the directions: what they add is carried by the shrinkage.
        """
        return [int(c) for c in np.argsort(self.patches, kind="stable") if self.patches[c] < self.kept]


def read_facts(path: Path) -> MetricFacts:
    """What the metric in a features file says of itself; raises IndexDamagedError where there is none."""
    try:
        with text_path(path) as name, safe_open(name, framework="numpy") as file:
            kept, of = file.get_slice("metric_directions").get_shape()
            return MetricFacts(
                kept, of, float(file.get_tensor("metric_shrinkage")[0]), file.get_tensor("metric_patches")
            )
    except (SafetensorError, OSError) as error:
        raise IndexDamagedError(f"{path} holds no metric that can be read ({error}); {REPAIR}") from error
