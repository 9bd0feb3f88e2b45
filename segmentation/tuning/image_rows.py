"""Whole images held in memory: the unit vectors that describe each, its classes, and what it cost."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from indexer.bank.describe_whole import label_of
from indexer.bank.reading import read_sample
from indexer.datasets import Sample
from indexer.datasets.whole import whole_columns
from indexer.features.whole.base import WholeExtractor
from indexer.recipe import Recipe
from retrieval.errors import DatasetError
from retrieval.progress import Progress, track
from segmentation.tuning.groups import group_codes

#: The part that is no objective's.
EMBEDDING = "embedding"


@dataclass(frozen=True)
class LabelledImages:
    """The classes of the images, and which are the same file."""

    truth: tuple[tuple[int, ...], ...]
    """Class columns of each image."""
    labels: npt.NDArray[np.uint8]
    """(N, C) soft labels times 255."""
    contents: npt.NDArray[np.int64]
    """(N,) the same number for images whose files have the same content."""

    @property
    def several(self) -> bool:
        """Whether an image has several classes."""
        return any(len(columns) > 1 for columns in self.truth)


@dataclass(frozen=True)
class ImageRows:
    """The images as one block describes them."""

    parts: dict[str, Tensor]
    """(N, width) float32 unit vectors: of the embedding, then of each objective, by its name in a recipe."""
    seconds: dict[str, float]
    """What each part took an image, in the median of batches; the embedding's has the model's pass in it."""


def read_labels(samples: Sequence[Sample], classes: int) -> LabelledImages:
    """Labels and contents; raises DataError for one that is missing or cannot be read."""
    truth = tuple(whole_columns(sample.labels) for sample in samples)
    labels = np.stack([label_of(columns, classes) for columns in truth])
    digests = []
    for sample in samples:
        digests.append(sample.source_key().sha256)
        if not digests[-1]:
            raise DatasetError(f"{sample.image} cannot be read; check the file")
    return LabelledImages(truth, labels, group_codes(digests))


def collect_images(
    extractor: WholeExtractor[Any], samples: Sequence[Sample], *, progress: Progress | None = None
) -> ImageRows:
    """Describe every input once; raises DataError for one that cannot be read."""
    names = names_of(extractor.recipe)
    found: dict[str, list[Tensor]] = {name: [] for name in names}
    seconds: dict[str, list[float]] = {name: [] for name in names}
    size = extractor.recipe.runtime.batch_size
    with track(progress, f"block {extractor.backbone.block}: features", len(samples)) as task:
        for start in range(0, len(samples), size):
            images = [read_sample(extractor, sample) for sample in samples[start : start + size]]
            began = time.perf_counter()
            for name, (_, part) in zip(names, extractor.each_part(images), strict=True):
                found[name].append(part.cpu())  # which waits for an accelerator
                ended = time.perf_counter()
                seconds[name].append((ended - began) / len(images))
                began = ended
            task.advance(len(images))
    # the first batch pays for the start of the model
    usual = {name: float(np.median(times[1:] or times)) for name, times in seconds.items()}
    return ImageRows({name: torch.cat(parts) for name, parts in found.items()}, usual)


def names_of(recipe: Recipe) -> list[str]:
    """The parts of :meth:`WholeExtractor.feature_parts`, the objectives as the recipe names them."""
    return [EMBEDDING, *(recipe.objective.kind if recipe.uses_gradients else ())]
