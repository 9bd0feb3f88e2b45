"""Fitting what maps images to vectors: support bank and PCA on some of the memory images, a metric on all."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from indexer.bank.metric import fit_metric_on
from indexer.bank.reading import read_sample
from indexer.datasets import Dataset, Sample
from indexer.datasets.keys import SourceKey
from indexer.features.extractors import AnyExtractor
from retrieval.errors import DataError
from retrieval.json_text import parse_json, read_limited
from retrieval.progress import Progress, track
from retrieval.store.files import atomic_write, sha256_file
from retrieval.store.layout import FEATURES

#: Images whose patches fit the support bank and the PCA.
FIT_IMAGES = 128
#: The file of a workspace that says which features were fitted on which images.
FITTED_FILE = "fitted.json"

_LOG = logging.getLogger("mycelia")


def fit_features(
    extractor: AnyExtractor,
    folder: Path,
    samples: Sequence[Sample],
    *,
    dataset: Dataset,
    skip_bad: bool,
    progress: Progress | None = None,
) -> None:
    """Fit the extractor and write its features in the workspace ``folder``, or read what is fitted there.

    What an earlier run fitted counts only where none of the images that it was fitted on has changed, nor
    the labels, where a metric saw them. Raises DataError for a bad image or mask unless ``skip_bad``,
    DatasetError and ConfigError where the samples cannot fit the recipe's features, StorageError.
    """
    path = folder / FEATURES
    measured = extractor.recipe.features.metric != "none"
    chosen = samples if measured else samples_to_fit(samples) if extractor.passes_to_fit else []
    earlier, known, known_labels = _read_fitted(folder)
    # before they are read: one that is replaced meanwhile is noticed when the build goes on
    images = [s.source_key(key) for s, key in zip_longest(chosen, known[: len(chosen)])]
    seen = samples if measured else []
    labels = [s.labels.key(key) for s, key in zip_longest(seen, known_labels[: len(seen)])]
    if path.is_file():
        changed = _changed(images, known) or _changed(labels, known_labels)
        if sha256_file(path) != earlier:
            changed = "it is not known on which images"
        if not changed:
            extractor.load(path)
            return
        _LOG.info("the features are fitted again: %s", changed)
    fit_on_samples(extractor, samples, skip_bad=skip_bad, progress=progress)
    fit_metric_on(extractor, dataset, samples, skip_bad=skip_bad, progress=progress)
    content = extractor.to_bytes()
    with atomic_write(path) as file:
        file.write(content)
    fitted = {
        "features": sha256_file(path),
        "images": [asdict(key) for key in images],
        "labels": [asdict(key) for key in labels],
    }
    with atomic_write(folder / FITTED_FILE) as file:
        file.write(json.dumps(fitted).encode())


def fit_on_samples(
    extractor: AnyExtractor,
    samples: Sequence[Sample],
    *,
    skip_bad: bool = False,
    progress: Progress | None = None,
) -> None:
    """Fit support bank and PCA, where the recipe has them, on an even choice of the samples' images.

    Raises ImageError for a bad image unless ``skip_bad``.
    """
    if not extractor.passes_to_fit:
        return
    chosen = samples_to_fit(samples)
    with track(progress, "fitting features", len(chosen) * extractor.passes_to_fit) as task:

        def batches() -> Iterator[Any]:
            batch: list[Any] = []
            for sample in chosen:
                try:
                    batch.append(extractor.prepare_one(read_sample(extractor, sample)))
                except DataError:
                    if not skip_bad:
                        raise
                if len(batch) == extractor.recipe.runtime.batch_size:
                    yield extractor.collate(batch)
                    batch = []
                task.advance()
            if batch:
                yield extractor.collate(batch)

        extractor.fit(batches, images=len(chosen))


def samples_to_fit(samples: Sequence[Sample]) -> list[Sample]:
    """At most :data:`FIT_IMAGES` of the samples, evenly over their order."""
    return [samples[i] for i in np.unique(np.linspace(0, len(samples) - 1, FIT_IMAGES).round().astype(int))]


def _changed(keys: Sequence[SourceKey], known: Sequence[SourceKey]) -> str:
    """What is not as it was when the features were fitted, in words; nothing where all is."""
    if [key.name for key in keys] != [key.name for key in known]:
        return "they were fitted on other images"
    for key, earlier in zip(keys, known, strict=True):
        if not key.equals(earlier):
            return f"{key.name} has changed"
    return ""


def _read_fitted(folder: Path) -> tuple[str | None, list[SourceKey], list[SourceKey]]:
    """The checksum of the features that an earlier run fitted, and the keys of its images and labels."""
    try:
        data = parse_json(read_limited(folder / FITTED_FILE), own=True)
        images = [SourceKey.from_json(key) for key in data["images"]]
        labels = [SourceKey.from_json(key) for key in data.get("labels", [])]  # older runs wrote none
        return str(data["features"]), images, labels
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None, [], []
