"""The product's metrics as lines of ``benchmarks.objectives``, and how others are found.

``--metric benchmarks.metric_maps:class_metric``
"""

from __future__ import annotations

import importlib
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch

from indexer.features.metric import MetricSums, fit_metric
from retrieval.errors import ConfigError

Tensor = torch.Tensor


#: From the memory's joined vectors (N, D) float32, embedding and projected gradient as an index holds them,
#: and its soft labels (N, C) uint8, to a map of (n, D) to (n, d): the similarity is the cosine of mapped
#: vectors.
Metric = Callable[[Tensor, npt.NDArray[np.uint8]], Callable[[Tensor], Tensor]]

#: Directions kept, or all that there are.
WIDTH = 192
SHRINKAGE = 0.1


def class_metric(vectors: Tensor, labels: npt.NDArray[np.uint8]) -> Callable[[Tensor], Tensor]:
    """``features.metric=class features.width=192``, fitted on rows (N, D) and soft labels (N, C)."""
    return _fitted(vectors, labels, "class")


def whitening(vectors: Tensor, labels: npt.NDArray[np.uint8]) -> Callable[[Tensor], Tensor]:
    """``features.metric=whiten features.width=192``, fitted on rows (N, D)."""
    return _fitted(vectors, labels, "whiten")


def _fitted(vectors: Tensor, labels: npt.NDArray[np.uint8], kind: str) -> Callable[[Tensor], Tensor]:
    sums = MetricSums(vectors.shape[1], labels.shape[1])
    shares = labels / labels.sum(axis=1, keepdims=True, dtype=np.float64)
    sums.add(vectors.cpu().numpy(), shares)
    metric = fit_metric(sums, kind=kind, shrinkage=SHRINKAGE, width=min(WIDTH, vectors.shape[1]))
    mean = torch.from_numpy(metric.mean).to(vectors)
    directions = torch.from_numpy(metric.directions).to(vectors)
    return lambda asked: (asked - mean) @ directions.T


def find_metric(name: str) -> tuple[str, Metric]:
    """(FUNCTION, the function) of ``MODULE:FUNCTION``; raises ConfigError."""
    module, _, attribute = name.partition(":")
    try:
        function: Metric = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"--metric {name!r} cannot be imported ({error}); expected MODULE:FUNCTION, with the module on "
            "Python's path"
        ) from error
    return attribute, function
