"""What every report says of where its figures are from, and how it becomes strict JSON."""

from __future__ import annotations

import math
from typing import Any

from indexer.datasets import Dataset
from retrieval.index import PatchIndex


def describe_dataset(dataset: Dataset) -> dict[str, Any]:
    """A data set as plain data, without its samples."""
    return {
        "name": dataset.name,
        "format": dataset.format,
        "root": str(dataset.root),
        "split": dataset.split,
        "samples": len(dataset),
    }


def describe_index(index: PatchIndex) -> dict[str, Any]:
    """An index as plain data: how large it is, and what made it."""
    manifest = index.manifest
    return {
        "rows": len(index),
        "created": manifest.created,
        "engine": manifest.engine,
        "fingerprints": manifest.fingerprints,
        "dataset": manifest.dataset,
    }


def strict(value: Any) -> Any:
    """The value with every NaN and infinity replaced by None, at any depth."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: strict(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [strict(item) for item in value]
    return value
