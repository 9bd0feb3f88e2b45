"""Metrics and principal components of the memory without what is left out, from sums: no label leaks.

A metric follows from sums over patches, so that those of all folds but one fit it as if the left-out fold
had never been there. Groups (images) that are left out are put into at most :data:`FOLDS` folds, so that a
metric is fitted no more often; with as many groups or fewer each is its own fold.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from indexer.features.metric import Floats, MetricSums, fit_metric
from indexer.features.projection import apply_pca
from retrieval.errors import ConfigError, DatasetError
from segmentation.tuning.rows import Bank, Query, joined
from segmentation.tuning.settings import Reduction

#: Fits of a metric at most, for each rule of leaving out.
FOLDS = 10
#: Rows that go through a metric at a time.
_ROWS = 8192


class PatchSums(MetricSums):
    """Sums of labelled vectors that can be added up, and whose parts can be weighed anew."""

    def plus(self, other: PatchSums) -> PatchSums:
        """The sums of both."""
        result = PatchSums(len(self._vectors), len(self.patches))
        result.rows = self.rows + other.rows
        result._vectors = self._vectors + other._vectors
        result._products = self._products + other._products
        result._by_class = self._by_class + other._by_class
        result._overlaps = self._overlaps + other._overlaps
        result.patches = self.patches + other.patches
        return result

    def scaled(self, scales: Floats) -> PatchSums:
        """As if the vectors' first numbers had been multiplied by ``scales``, and the rest dropped."""
        width = len(scales)
        result = PatchSums(width, len(self.patches))
        result.rows, result._overlaps, result.patches = self.rows, self._overlaps, self.patches
        result._vectors = self._vectors[:width] * scales
        result._products = self._products[:width, :width] * np.outer(scales, scales)
        result._by_class = self._by_class[:, :width] * scales
        return result


class FoldSums:
    """The sums of each fold under each rule of leaving out."""

    def __init__(self, rules: Sequence[npt.NDArray[np.int64]], classes: int) -> None:
        """``rules`` give the group of each image, (images,) each."""
        self.folds = [codes % FOLDS for codes in rules]
        self._classes = classes
        self._sums: list[dict[int, PatchSums]] = [{} for _ in rules]
        self._widths = (0, 0)

    def add(
        self, image: int, parts: Sequence[npt.NDArray[np.float32]], shares: npt.NDArray[np.float64]
    ) -> None:
        """Labelled patches of an image: embedding, and perhaps projected gradient, unweighted."""
        self._widths = (parts[0].shape[1], sum(part.shape[1] for part in parts[1:]))
        one = PatchSums(sum(self._widths), self._classes)
        one.add(np.concatenate(parts, axis=1), shares)
        for folds, sums in zip(self.folds, self._sums, strict=True):
            fold = int(folds[image])
            sums[fold] = sums[fold].plus(one) if fold in sums else one

    def without(self, rule: int, fold: int | None, weight: float) -> PatchSums:
        """The sums of all patches but the fold's (None: of all), of vectors joined with this weight."""
        kept = [sums for number, sums in self._sums[rule].items() if number != fold]
        if not kept:
            raise DatasetError("without what is left out no labelled patch is left to fit a metric on")
        total = kept[0]
        for sums in kept[1:]:
            total = total.plus(sums)
        return total.scaled(self._scales(weight))

    def _scales(self, weight: float) -> Floats:
        if not weight:
            return np.ones(self._widths[0])
        share = weight / (1 + weight)
        return np.repeat([(1 - share) ** 0.5, share**0.5], self._widths)


def fit_reduction(sums: PatchSums, reduction: Reduction) -> tuple[Tensor, Tensor]:
    """Mean (D,) and directions (width, D) of a metric, or of principal components of the same patches.

    Raises DatasetError and ConfigError where they cannot be fitted.
    """
    width = reduction.width or None
    if reduction.kind != "pca":
        metric = fit_metric(sums, kind=reduction.kind, shrinkage=reduction.shrinkage, width=width)
        return torch.from_numpy(metric.mean), torch.from_numpy(metric.directions)
    sums.check("whiten", width)
    variances, axes = np.linalg.eigh(sums.total())
    variances, axes = variances[::-1][:width], axes[:, ::-1][:, :width]
    power = {"none": 0.0, "half": 0.25, "full": 0.5}[reduction.whiten]
    directions = axes / np.maximum(variances, 1e-10 * max(variances[0], 1e-30)) ** power
    return torch.from_numpy(sums.mean).float(), torch.from_numpy(directions.T.copy()).float()


class Reducer:
    """Banks and queries of one block as their vectors without each fold."""

    def __init__(self, bank: Bank, sums: FoldSums) -> None:
        """``sums`` are of the labelled patches of the bank's images."""
        self._bank, self._sums = bank, sums
        self._checked: dict[tuple[int, int, float, str], tuple[int, int]] = {}
        self._fits: dict[tuple[int, int | None, float, Reduction], tuple[int, Tensor, Tensor]] = {}

    def fit(self, rule: int, fold: int | None, weight: float, reduction: Reduction) -> tuple[Tensor, Tensor]:
        """Mean and directions of the memory without a fold (None: with all), as :func:`fit_reduction`."""
        key = (rule, fold, weight, replace(reduction, width=0))
        if key not in self._fits:  # the leading directions of a narrow one are those of a wide one
            sums = self._sums.without(rule, fold, weight)
            self._fits[key] = (sums.rows, *fit_reduction(sums, key[3]))
        rows, mean, directions = self._fits[key]
        _check_width(reduction.width, len(mean), rows)
        return mean, directions[: reduction.width or None]

    def folds_of(self, rule: int, queries: Sequence[Query]) -> list[int]:
        """The fold that is left out with each query's group."""
        return [int(self._sums.folds[rule][query.image]) for query in queries]

    def check(self, rules: int, queries: Sequence[Query], weight: float, reduction: Reduction) -> str | None:
        """Why this cannot be fitted without some fold of the queries, None where it can."""
        kind = "whiten" if reduction.kind == "pca" else reduction.kind
        try:
            for rule in range(rules):
                for fold in sorted(set(self.folds_of(rule, queries))):
                    key = (rule, fold, weight, kind)
                    if key not in self._checked:  # adding up the sums takes its time
                        sums = self._sums.without(rule, fold, weight)
                        sums.check(kind, None)
                        self._checked[key] = len(sums.mean), sums.rows
                    _check_width(reduction.width, *self._checked[key])
        except (DatasetError, ConfigError) as error:
            return str(error)
        return None

    def banks(
        self, rule: int, queries: Sequence[Query], weight: float, reduction: Reduction
    ) -> Iterator[tuple[Tensor, list[tuple[int, Tensor]]]]:
        """For each fold: the bank's vectors (N, width), and (position, vectors (Q, width)) of its queries."""
        folds = self.folds_of(rule, queries)
        for fold in sorted(set(folds)):
            fitted = self.fit(rule, fold, weight, reduction)
            inside = [
                (place, reduced(query.parts, weight, fitted))
                for place, query in enumerate(queries)
                if folds[place] == fold
            ]
            yield reduced(self._bank.parts, weight, fitted), inside


def _check_width(width: int, most: int, rows: int) -> None:
    """Raise ConfigError for more directions than numbers of a vector, or than the rows that they are from."""
    if width > most:
        raise ConfigError(f"a width of {width} is more than the {most} numbers of a vector")
    if width >= rows:
        raise ConfigError(f"a width of {width} needs more labelled patches than that, not {rows}")


def reduced(parts: Sequence[Tensor], weight: float, fitted: tuple[Tensor, Tensor]) -> Tensor:
    """Unit vectors (n, width) float32, rounded to float16 as an index stores them, of stored parts (n, .)."""
    device = parts[0].device
    result = torch.empty(len(parts[0]), len(fitted[1]), device=device)
    for start in range(0, len(result), _ROWS):
        rows = slice(start, start + _ROWS)
        vectors = joined(tuple(part[rows].float() for part in parts), weight)
        result[rows] = apply_pca(vectors, fitted[0].to(device), fitted[1].to(device)).half().float()
    return result
