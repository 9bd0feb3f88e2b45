"""How good classes of whole images are: pure functions, and the report that holds what they gave.

Truth is a tuple of class columns for each image, one or several; shares are (N, C) float32, one row an image.
A class without any share of the vote never counts as found.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from retrieval.errors import ConfigError
from segmentation.classification.matches import Match
from segmentation.scoring.provenance import strict

#: The true class columns of each image.
Truth = Sequence[tuple[int, ...]]
Shares = npt.NDArray[np.float32]

#: Class names that a note lists one by one.
MOST_NAMED = 5


def best_columns(shares: Shares) -> npt.NDArray[np.int64]:
    """The class with the largest share of each image, the first of equals: (N, C) -> (N,), -1 without."""
    if not shares.size:
        return np.full(len(shares), -1, dtype=np.int64)
    best: npt.NDArray[np.int64] = shares.argmax(axis=1).astype(np.int64)
    best[shares.max(axis=1) <= 0] = -1
    return best


def found_in_top(truth: Truth, shares: Shares, count: int) -> npt.NDArray[np.bool_]:
    """Whether a true class is among the ``count`` with the largest shares, (N,) bool.

    Of equal shares the first columns come first.
    """
    order = np.argsort(-shares, axis=1, kind="stable")[:, :count]
    return np.array(
        [
            any(column in true and row[column] > 0 for column in top)
            for true, row, top in zip(truth, shares, order, strict=True)
        ],
        dtype=bool,
    )


def confusion_matrix(truth: Truth, best: npt.NDArray[np.int64], classes: int) -> npt.NDArray[np.int64]:
    """Images by true class (row) and best class (column): (C, C) int64.

    Images of several true classes, and those without votes (best -1), are not in it.
    """
    matrix = np.zeros((classes, classes), dtype=np.int64)
    for true, column in zip(truth, best, strict=True):
        if len(true) == 1 and column >= 0:
            matrix[true[0], column] += 1
    return matrix


@dataclass(frozen=True)
class ClassScore:
    """One line of the table per class; shares in 0..1, NaN where there is nothing to divide by."""

    name: str
    n: int
    """Images that have this class."""
    recall: float
    """Share of these whose best class is this one."""
    precision: float
    """Share of the images with this best class that truly have it."""


def class_table(truth: Truth, best: npt.NDArray[np.int64], names: Sequence[str]) -> list[ClassScore]:
    """Images, recall and precision of each class, in column order; ``best`` (N,) as :func:`best_columns`."""
    n, hits, given = (np.zeros(len(names), dtype=np.int64) for _ in range(3))
    for true, column in zip(truth, best, strict=True):
        n[list(true)] += 1
        if column >= 0:
            given[column] += 1
            hits[column] += int(column) in true
    return [
        ClassScore(name, int(n[c]), _ratio(int(hits[c]), int(n[c])), _ratio(int(hits[c]), int(given[c])))
        for c, name in enumerate(names)
    ]


def balanced_accuracy(table: Sequence[ClassScore]) -> float:
    """Mean recall of the classes that occur in truth, 0..1; NaN where none does."""
    recalls = [row.recall for row in table if row.n]
    return float(np.mean(recalls)) if recalls else math.nan


def standard_error(share: float, n: int) -> float:
    """Standard error of the share of ``n`` images that are right, sqrt(p (1 - p) / n); NaN for none."""
    return math.sqrt(share * (1 - share) / n) if n else math.nan


def average_precisions(truth: Truth, shares: Shares) -> npt.NDArray[np.float64]:
    """Average precision of each class, (C,) in 0..1, NaN for a class that no image has.

    Images are ranked by their share of the class; ``AP = sum_n (R_n - R_(n-1)) P_n`` over the thresholds,
    so that images of equal share count together.
    """
    has = np.zeros(shares.shape, dtype=bool)
    for row, true in enumerate(truth):
        has[row, list(true)] = True
    result = np.full(shares.shape[1], np.nan)
    for column in np.flatnonzero(has.any(axis=0)):
        order = np.argsort(-shares[:, column], kind="stable")
        ranked, hits = shares[order, column], np.cumsum(has[order, column])
        last = np.flatnonzero(np.append(np.diff(ranked) != 0, True))  # of each group of equals
        precision = hits[last] / (last + 1)
        gained = np.diff(hits[last], prepend=0)
        result[column] = float((precision * gained).sum() / hits[-1])
    return result


def mean_average_precision(truth: Truth, shares: Shares) -> float:
    """Mean of :func:`average_precisions` over the classes that occur; NaN where none does."""
    values = average_precisions(truth, shares)
    return float(np.nanmean(values)) if np.isfinite(values).any() else math.nan


def paired_difference(correct_a: npt.NDArray[Any], correct_b: npt.NDArray[Any]) -> tuple[float, float]:
    """How much better A is than B on the same images: mean of A - B and its standard error.

    Both are (N,) bool, or shares in 0..1 of several runs, image by image. The error is that of the mean of
    the N differences, far smaller than that of two separate shares where A and B fail on the same images;
    NaN below 2 images. Raises ConfigError for arrays that are not of one length.
    """
    if correct_a.shape != correct_b.shape or correct_a.ndim != 1:
        raise ConfigError(
            f"a paired difference needs two arrays (N,) of the same images, got {correct_a.shape} and "
            f"{correct_b.shape}; score both on the same images in the same order"
        )
    n = len(correct_a)
    if n == 0:
        return math.nan, math.nan
    differences = correct_a.astype(np.float64) - correct_b.astype(np.float64)
    error = float(differences.std(ddof=1)) / math.sqrt(n) if n > 1 else math.nan
    return float(differences.mean()), error


@dataclass(frozen=True)
class ImageResult:
    """One scored image."""

    id: str
    truth: tuple[str, ...]
    best: str | None
    """The class with the largest share; None without votes."""
    share: float
    right: bool
    """Whether the best class is among the true ones."""
    in_top5: bool
    in_memory: bool = False
    """Whether the memory was built from this very file, among others."""


@dataclass(frozen=True)
class Mistake:
    """An image that was given a wrong class, and the memory images that gave it."""

    id: str
    path: str
    truth: tuple[str, ...]
    best: str
    share: float
    neighbours: tuple[Match, ...]
    text: str | None = None
    """Of a text in a table: the text, as ``path`` is the table's."""


@dataclass(frozen=True, eq=False)
class ClassificationReport:
    """What came out of an evaluation of classes, and everything that decided it."""

    names: tuple[str, ...]
    """Class names by column: the memory's, then those that only the truth has."""
    missing: tuple[str, ...]
    """The classes in truth that the memory lacks; their images count as wrong."""
    missing_images: int
    """Images that have such a class and no other."""
    confusion: npt.NDArray[np.int64]
    """As :func:`confusion_matrix`, over ``names``."""
    per_class: tuple[ClassScore, ...]
    mean_average_precision: float | None
    """Over the classes that occur, where an image has several true classes; None where none has."""
    per_image: tuple[ImageResult, ...]
    worst: tuple[Mistake, ...]
    """Mistakes with the largest shares, largest first."""
    unlabelled: int
    """Images without any class, which were not scored."""
    skipped: tuple[tuple[str, str], ...]
    """(id, reason) of images that could not be read."""
    seconds: float
    recipe: dict[str, Any]
    dataset: dict[str, Any]
    index: dict[str, Any]
    versions: dict[str, str]
    leave_out: bool = False
    """Whether images of the memory were scored without themselves."""

    @property
    def images(self) -> int:
        """Images that were scored."""
        return len(self.per_image)

    @property
    def correct(self) -> npt.NDArray[np.bool_]:
        """(N,) whether each image is right, for :func:`paired_difference`."""
        return np.array([image.right for image in self.per_image], dtype=bool)

    @property
    def top1(self) -> float:
        """Share of images whose best class is a true one, 0..1; NaN without images."""
        return _ratio(sum(image.right for image in self.per_image), self.images)

    @property
    def top1_error(self) -> float:
        """Standard error of :attr:`top1`, as of a binomial."""
        return standard_error(self.top1, self.images)

    @property
    def top5(self) -> float:
        """Share of images with a true class among the five best, 0..1; NaN without images."""
        return _ratio(sum(image.in_top5 for image in self.per_image), self.images)

    @property
    def balanced(self) -> float:
        """Balanced accuracy: mean recall of the classes that occur, 0..1."""
        return balanced_accuracy(self.per_class)

    @property
    def in_memory(self) -> int:
        """How many of the scored images the memory was built from."""
        return sum(image.in_memory for image in self.per_image)

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences that who reads the score should know."""
        return tuple(filter(None, (self._missing_note(), self._memory_note(), self._unlabelled_note())))

    def _missing_note(self) -> str:
        if not self.missing:
            return ""
        named = ", ".join(self.missing[:MOST_NAMED])
        more = f" and {len(self.missing) - MOST_NAMED} more" if len(self.missing) > MOST_NAMED else ""
        return (
            f"the memory has no image of {named}{more}: {self.missing_images:,} of {self.images:,} images, "
            "which count as wrong; add images of these classes to the index"
        )

    def _memory_note(self) -> str:
        if not self.in_memory:
            return ""
        note = f"{self.in_memory:,} of {self.images:,} images are in the memory"
        if self.leave_out:
            return f"{note}, and each was scored without itself"
        return (
            f"{note}, which flatters the score: take other images, or score without themselves (--leave-out)"
        )

    def _unlabelled_note(self) -> str:
        return f"{self.unlabelled:,} images have no class and were not scored" if self.unlabelled else ""

    def to_json(self) -> dict[str, Any]:
        """Plain data for strict JSON: shares in 0..1, null where a number does not exist."""
        data = {
            "top1": self.top1,
            "top1_error": self.top1_error,
            "top5": self.top5,
            "balanced_accuracy": self.balanced,
            "mean_average_precision": self.mean_average_precision,
            "images": self.images,
            "notes": list(self.notes),
            "missing": list(self.missing),
            "missing_images": self.missing_images,
            "unlabelled": self.unlabelled,
            "in_memory": self.in_memory,
            "leave_out": self.leave_out,
            "seconds": self.seconds,
            "dataset": self.dataset,
            "index": self.index,
            "recipe": self.recipe,
            "versions": self.versions,
            "skipped": [{"id": id, "reason": reason} for id, reason in self.skipped],
            "per_class": [asdict(row) for row in self.per_class],
            "names": list(self.names),
            "confusion": self.confusion.tolist(),
            "worst": [asdict(mistake) for mistake in self.worst],
            "per_image": [asdict(image) for image in self.per_image],
        }
        plain: dict[str, Any] = strict(data)
        return plain


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else math.nan
