"""Fitting the metric of an index on the labelled patches, or whole images, of its memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from indexer.bank.describe import prepare_job
from indexer.bank.describe_scaled import by_tiles, tile_labels, tiled_grid
from indexer.bank.describe_whole import label_of
from indexer.bank.jobs import BankJob
from indexer.bank.reading import read_labelled, read_sample
from indexer.bank.sampling import choose_patches
from indexer.datasets import Dataset, Sample
from indexer.datasets.whole import whole_columns
from indexer.features.extractors import AnyExtractor
from indexer.features.fungi import FungiExtractor
from indexer.features.metric import MetricSums, fit_metric, fourth_powers, ledoit_wolf
from indexer.features.whole.base import WholeExtractor
from indexer.images import PatchGrid
from indexer.seeds import generator_for
from retrieval.errors import DataError
from retrieval.progress import Progress, Task, track

T = TypeVar("T")

#: Patches of one image that a metric is fitted on at most, rare classes first.
METRIC_PATCHES_PER_IMAGE = 256

#: Vectors (n, D) and the shares (n, C) of their classes, whose rows sum to one.
Rows = tuple[npt.NDArray[np.float32], npt.NDArray[np.float64]]


def fit_metric_on(
    extractor: AnyExtractor,
    dataset: Dataset,
    samples: Sequence[Sample],
    *,
    skip_bad: bool = False,
    progress: Progress | None = None,
) -> None:
    """Fit the recipe's metric, where it has one, on all the samples as they are, without augmentation.

    Of an image of patches at most :data:`METRIC_PATCHES_PER_IMAGE` labelled ones count, chosen as the
    bank chooses; no vector is kept. The images are gone over once, with ``ledoit-wolf`` twice. What the
    extractor has besides has to be fitted before. Raises DataError for a bad image or mask unless
    ``skip_bad``, DatasetError and ConfigError where they cannot fit a metric.
    """
    features = extractor.recipe.features
    kind, shrinkage = features.metric, features.shrinkage
    if kind == "none":
        return
    passes = 2 if isinstance(shrinkage, str) else 1
    with track(progress, "fitting the metric", passes * len(samples)) as task:

        def labelled() -> Iterator[Rows]:
            if isinstance(extractor, WholeExtractor):
                return _of_whole(extractor, dataset, samples, skip_bad=skip_bad, task=task)
            if extractor.recipe.image.scale is not None:
                return _of_tiles(extractor, dataset, samples, skip_bad=skip_bad, task=task)
            return _of_patches(extractor, dataset, samples, skip_bad=skip_bad, task=task)

        sums = MetricSums(extractor.raw_width, len(dataset.classes))
        for vectors, shares in labelled():
            sums.add(vectors, shares)
        if isinstance(shrinkage, str):
            sums.check(kind, features.width)
            mean, means = sums.mean, sums.class_means(kind)
            fourth = sum(fourth_powers(vectors, shares, mean, means) for vectors, shares in labelled())
            shrinkage = ledoit_wolf(sums.within(kind), fourth / sums.rows, sums.rows)
    metric = fit_metric(sums, kind=kind, shrinkage=shrinkage, width=features.width)
    extractor.take_metric(metric, dataset.classes)


def _of_patches(
    extractor: FungiExtractor, dataset: Dataset, samples: Sequence[Sample], *, skip_bad: bool, task: Task
) -> Iterator[Rows]:
    """The chosen patches of each image."""

    def read(sample: Sample) -> tuple[torch.Tensor, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        item = prepare_job(extractor, dataset, BankJob(0, 0, sample), plain=True)
        generator = generator_for(extractor.recipe.seed, "metric", sample.id)
        return item.tensor, item.counts, choose_patches(item.counts, METRIC_PATCHES_PER_IMAGE, generator)

    for batch in _batches(extractor, samples, read, skip_bad=skip_bad, task=task):
        vectors = extractor.raw_vectors(torch.stack([tensor for tensor, _, _ in batch])).cpu().numpy()
        for rows, (_, counts, kept) in zip(vectors, batch, strict=True):
            yield rows[kept], _shares(counts[kept])


def _of_tiles(
    extractor: FungiExtractor, dataset: Dataset, samples: Sequence[Sample], *, skip_bad: bool, task: Task
) -> Iterator[Rows]:
    """The chosen patches of each image at the recipe's ``image.scale``, tile after tile."""

    def vectors_of(tiles: Sequence[torch.Tensor], _: Sequence[PatchGrid]) -> npt.NDArray[np.float32]:
        vectors: npt.NDArray[np.float32] = extractor.raw_vectors(torch.stack(list(tiles))).cpu().numpy()
        return vectors

    for sample in samples:
        try:
            image, columns = read_labelled(extractor.recipe, dataset, sample)
        except DataError:
            if not skip_bad:
                raise
        else:
            grid = tiled_grid(extractor, (image.shape[0], image.shape[1]))
            counts = tile_labels(columns, grid, classes=len(dataset.classes))
            generator = generator_for(extractor.recipe.seed, "metric", sample.id)
            kept = choose_patches(counts, METRIC_PATCHES_PER_IMAGE, generator)
            for rows, vectors in by_tiles(extractor, image, grid, kept, vectors_of):
                yield vectors, _shares(counts[rows])
        task.advance()


def _of_whole(
    extractor: WholeExtractor[Any], dataset: Dataset, samples: Sequence[Sample], *, skip_bad: bool, task: Task
) -> Iterator[Rows]:
    """The inputs of each batch."""

    def read(sample: Sample) -> tuple[Any, npt.NDArray[np.uint8]]:
        content = extractor.prepare_one(read_sample(extractor, sample))
        return content, label_of(whole_columns(sample.labels), len(dataset.classes))

    for batch in _batches(extractor, samples, read, skip_bad=skip_bad, task=task):
        vectors = extractor.raw_vectors([content for content, _ in batch]).cpu().numpy()
        yield vectors, _shares(np.stack([label for _, label in batch]))


def _batches(
    extractor: AnyExtractor,
    samples: Sequence[Sample],
    read: Callable[[Sample], T],
    *,
    skip_bad: bool,
    task: Task,
) -> Iterator[list[T]]:
    """What ``read`` gives of the samples, as many at once as the model sees."""
    batch: list[T] = []
    for sample in samples:
        try:
            batch.append(read(sample))
        except DataError:
            if not skip_bad:
                raise
        if len(batch) == extractor.recipe.runtime.batch_size:
            yield batch
            batch = []
        task.advance()
    if batch:
        yield batch


def _shares(counts: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Counts (n, C) as shares: the soft labels, not rounded to bytes, so that each row sums to one."""
    shares: npt.NDArray[np.float64] = counts / counts.sum(axis=1, keepdims=True)
    return shares
