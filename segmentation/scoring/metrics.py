"""Scores from a confusion matrix. Pure functions; rows are the truth, columns the prediction."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from retrieval.classes import UNLABELLED
from retrieval.errors import MaskError

Confusion = npt.NDArray[np.int64]
PerClass = npt.NDArray[np.float64]


def confusion_matrix(truth: npt.NDArray[Any], predicted: npt.NDArray[Any], classes: int) -> Confusion:
    """Counts of pixels by true and predicted class: two (...) integer arrays of columns -> (C, C) int64.

    Pixels whose truth is -1 (unlabelled) are left out. Raises MaskError where the shapes differ or
    a column is outside 0..classes-1.
    """
    if truth.shape != predicted.shape:
        raise MaskError(f"truth is {truth.shape}, prediction {predicted.shape}; both need the same shape")
    labelled = truth != UNLABELLED
    rows = truth[labelled].astype(np.int64)
    cols = predicted[labelled].astype(np.int64)
    for name, values in (("truth", rows), ("prediction", cols)):
        if values.size and (values.min() < 0 or values.max() >= classes):
            raise MaskError(f"the {name} has columns outside 0..{classes - 1}; map ids to columns first")
    return np.bincount(rows * classes + cols, minlength=classes * classes).reshape(classes, classes)


def iou_per_class(confusion: Confusion) -> PerClass:
    """Intersection over union, TP / (TP + FP + FN): (C, C) -> (C,) float64, NaN for a class in neither."""
    hits = np.diagonal(confusion).astype(np.float64)
    return _ratio(hits, confusion.sum(axis=0) + confusion.sum(axis=1) - hits)


def accuracy_per_class(confusion: Confusion) -> PerClass:
    """Share of each class's true pixels that were found: (C, C) -> (C,) float64, NaN without true pixels."""
    return _ratio(np.diagonal(confusion).astype(np.float64), confusion.sum(axis=1))


def mean_iou(confusion: Confusion) -> float:
    """Mean IoU in 0..1 over the classes that occur in truth or prediction; NaN where none does."""
    return mean_present(iou_per_class(confusion))


def mean_accuracy(confusion: Confusion) -> float:
    """Mean of the classes' accuracies in 0..1 over the classes in the truth; NaN where there is none."""
    return mean_present(accuracy_per_class(confusion))


def pixel_accuracy(confusion: Confusion) -> float:
    """Share of labelled pixels that were predicted right, 0..1; NaN without labelled pixels."""
    total = int(confusion.sum())
    return float(np.trace(confusion)) / total if total else float("nan")


def hummingbird_miou(confusion: Confusion) -> float:
    """Mean IoU as the peers compute it, in 0..1: predicted classes renamed to their own advantage.

    One confusion matrix of the whole set gives the IoU of every (true, predicted) pair; the
    Hungarian algorithm picks the one-to-one renaming of predicted classes with the largest sum,
    and the mean runs over *all* classes, where a class in neither truth nor prediction counts as
    0. The renaming makes this at least as large as :func:`mean_iou` when every class occurs (a
    prediction with two classes swapped scores as if it were right); the zeros make it smaller
    when classes are missing. NaN where there are no pixels.

    Source: `PredsmIoU`, `hbird/utils/eval_metrics.py` of `open-hummingbird-eval`, as called by
    `HbirdEvaluation.evaluate` (ignored pixels are dropped before; scores at the input's size).
    """
    if not confusion.any():
        return float("nan")
    from scipy.optimize import linear_sum_assignment

    pairs = pairwise_iou(confusion)
    rows, cols = linear_sum_assignment(pairs, maximize=True)
    return float(pairs[rows, cols].mean())


def pairwise_iou(confusion: Confusion) -> npt.NDArray[np.float64]:
    """IoU of every true with every predicted class: (C, C) -> (C, C) float64, 0 where both are empty."""
    overlap = confusion.astype(np.float64)
    union = confusion.sum(axis=1, keepdims=True) + confusion.sum(axis=0, keepdims=True) - overlap
    return np.nan_to_num(_ratio(overlap, union), nan=0.0)


def _ratio(part: npt.NDArray[Any], whole: npt.NDArray[Any]) -> PerClass:
    """part / whole, NaN where the whole is 0."""
    result = np.full(part.shape, np.nan)
    np.divide(part, whole, out=result, where=whole > 0)
    return result


def mean_present(values: PerClass) -> float:
    """Mean of the values that are not NaN; NaN where none is left."""
    present = values[~np.isnan(values)]
    return float(present.mean()) if present.size else float("nan")
