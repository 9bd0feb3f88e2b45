"""Patches held in memory: the bank's rows, all patches of the images to segment, and their similarity."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from indexer.bank.describe import PreparedImage, kept_patches, prepare_job
from indexer.bank.jobs import jobs_of
from indexer.bank.metric import METRIC_PATCHES_PER_IMAGE
from indexer.bank.sampling import choose_patches, patches_per_image, soft_labels
from indexer.datasets import Dataset, Sample
from indexer.features.cut import Cut
from indexer.features.fungi import FungiExtractor
from indexer.features.projection import join_features
from indexer.images import Geometry
from indexer.recipe import Recipe
from indexer.seeds import generator_for
from retrieval.errors import DatasetError
from retrieval.progress import Progress, track
from segmentation.tuning.cuts import Cuts, cut_or_images

#: Unit vectors of n patches, (n, width) each: embedding; then projected gradient, or gradient and activation.
Parts = tuple[Tensor, ...]


@dataclass(frozen=True)
class Bank:
    """The memory bank of one block."""

    parts: Parts
    """float16."""
    labels: npt.NDArray[np.uint8]
    """(N, C) soft labels times 255."""
    images: npt.NDArray[np.int64]
    """(N,) position of each row's image."""

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class Query:
    """An image to segment, as the model sees it."""

    image: int
    sample: Sample
    parts: Parts
    """float16, one row a patch."""
    geometry: Geometry
    shifts: int = 1
    """How many times finer than the model's grid its patches are."""


class TakesPatches(Protocol):
    """What is told of the labelled patches of each image, for a metric."""

    def add(
        self, image: int, parts: Sequence[npt.NDArray[np.float32]], shares: npt.NDArray[np.float64]
    ) -> None:
        """Unit vectors (n, .) float32 of an image's patches, and the shares (n, C) of their classes."""


def channels(query: Parts, bank: Parts) -> tuple[Tensor, Tensor | None]:
    """Cosines of float32 patches (Q, .) and rows (n, .): of embeddings and of gradients, (Q, n) each.

    The second is None without gradients. Of gradient and activation it is the product of their cosines,
    that of their outer products.
    """
    cosines = [ours @ theirs.T for ours, theirs in zip(query, bank, strict=True)]
    if len(cosines) == 3:
        cosines[1:] = [cosines[1].mul_(cosines[2])]
    return cosines[0], cosines[1] if len(cosines) == 2 else None


def mix(embedding: Tensor, gradient: Tensor | None, weight: float) -> Tensor:
    """``(cos e + w cos G) / (1 + w)``, a new tensor; weight 0 means embeddings alone."""
    if weight == 0 or gradient is None:
        return embedding.clone()
    return torch.add(embedding, gradient, alpha=weight).div_(1 + weight)


def joined(parts: Parts, weight: float) -> Tensor:
    """One vector of each patch's parts: the embedding alone with weight 0."""
    return parts[0] if weight == 0 else join_features(parts, weight)


def collect(
    extractor: FungiExtractor,
    dataset: Dataset,
    queries: Sequence[int],
    *,
    total: int | None = None,
    sums: TakesPatches | None = None,
    progress: Progress | None = None,
    cuts: Cuts | None = None,
    describe: Callable[[Tensor | Cut], Parts] | None = None,
    label: str | None = None,
) -> tuple[Bank, list[Query]]:
    """Describe every image of the data set once: the recipe's bank, and all patches of ``queries``.

    The data set is a part of one of ``total`` images, whose bank decides how many patches an image gives.
    ``sums`` hears of the patches that a metric is fitted on, those that a build would take. ``cuts``, of
    images as they are segmented, are used up; ``describe`` gives the parts (B, T, .) of a batch, the
    extractor's unless said; ``label`` is what progress calls it. Raises ImageError or MaskError for a bad
    image or mask, DatasetError where no patch is labelled.
    """
    recipe, tokens = extractor.recipe, extractor.backbone.tokens
    describe, cuts = describe or extractor.feature_parts, {} if cuts is None else cuts
    label = label or f"block {extractor.backbone.block}: features"
    limit = patches_per_image(recipe.bank, images=total or len(dataset), tokens=tokens)
    jobs = jobs_of(dataset.samples, recipe.bank.epochs)
    store, wanted, found = _Store(limit * len(jobs)), set(queries), []
    views = [(job, False) for job in jobs]
    if recipe.bank.augments(0):  # no epoch sees an image as it is segmented
        plain_too = sorted(wanted) if sums is None else range(len(dataset))
        views += [(jobs[image], True) for image in plain_too]
    with track(progress, label, len(views)) as task:
        for start in range(0, len(views), recipe.runtime.batch_size):
            batch = views[start : start + recipe.runtime.batch_size]
            items = [prepare_job(extractor, dataset, job, plain=plain) for job, plain in batch]
            owns = [plain or not recipe.bank.augments(job.epoch) for job, plain in batch]
            known = [
                cuts.pop(job.sample.id, None) if own else None
                for (job, _), own in zip(batch, owns, strict=True)
            ]
            described = describe(cut_or_images(extractor, [item.tensor for item in items], known))
            for number, (item, own, (job, plain)) in enumerate(zip(items, owns, batch, strict=True)):
                parts = tuple(part[number].half().cpu() for part in described)
                image = job.number % len(dataset)
                if sums is not None and own:
                    _sum_up(sums, image, [part[number] for part in described], item, recipe)
                if not plain:
                    store.add(parts, item, kept_patches(recipe, item, limit), image)
                if image in wanted and own:
                    found.append(Query(image, job.sample, parts, item.geometry))
                task.advance()
    return store.bank(dataset), found


def _sum_up(
    sums: TakesPatches, image: int, parts: Sequence[Tensor], item: PreparedImage, recipe: Recipe
) -> None:
    """Give the patches of an image that a build would fit a metric on."""
    generator = generator_for(recipe.seed, "metric", item.job.sample.id)
    kept = choose_patches(item.counts, METRIC_PATCHES_PER_IMAGE, generator)
    # of gradient and activation there is no metric
    if recipe.features.kind == "fungi" and recipe.features.projection == "none":
        parts = parts[:1]
    counts = item.counts[kept]
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    sums.add(image, [part.cpu().numpy()[kept] for part in parts], shares)


class _Store:
    """The bank under construction, in arrays made once for all of its rows."""

    def __init__(self, limit: int) -> None:
        self._limit, self._rows = limit, 0
        self._parts: list[Tensor] = []
        self._labels: list[npt.NDArray[np.uint8]] = []
        self._images: list[npt.NDArray[np.int64]] = []

    def add(self, parts: Parts, item: PreparedImage, kept: npt.NDArray[np.int64], image: int) -> None:
        if not self._parts:
            self._parts = [part.new_empty(self._limit, part.shape[1]) for part in parts]
        for stored, part in zip(self._parts, parts, strict=True):
            stored[self._rows : self._rows + len(kept)] = part[torch.from_numpy(kept)]
        self._labels.append(soft_labels(item.counts[kept]))
        self._images.append(np.full(len(kept), image, dtype=np.int64))
        self._rows += len(kept)

    def bank(self, dataset: Dataset) -> Bank:
        if self._rows == 0:
            raise DatasetError(f"{dataset.name}: no labelled patch was found in any image")
        parts = tuple(part[: self._rows] for part in self._parts)
        return Bank(parts, np.concatenate(self._labels), np.concatenate(self._images))
