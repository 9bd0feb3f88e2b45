"""Where a run of assist reads and writes, and which memory it needs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from indexer.bank.add import add_data
from indexer.bank.build import build_index
from indexer.bank.level import resolve_level
from indexer.datasets import Dataset
from indexer.recipe import Recipe, RuntimeSettings
from retrieval.errors import ConfigError
from retrieval.folder import IndexFolder
from retrieval.progress import Progress
from retrieval.store.manifest import Manifest, has_manifest
from retrieval.store.paths import real_path
from segmentation.assist.record import Record


def check_places(folder: Path, labels: Path, out: Path) -> None:
    """Raise ConfigError where masks would be taken for photos or labels, or labels for photos."""
    if not folder.is_dir():
        came = "a file" if folder.exists() else "nothing"
        raise ConfigError(f"expected a folder of photos at {folder}, found {came}; check the path")
    if out.exists() and not out.is_dir():
        raise ConfigError(f"--out {out} is a file, but masks need a folder; choose another name")
    photos, labelled, masks = real_path(folder), real_path(labels), real_path(out)
    if masks == photos or photos in masks.parents:
        raise ConfigError(
            f"--out {out} is in {folder}, where its masks would be taken for photos; choose another folder"
        )
    if masks == labelled or labelled in masks.parents:
        raise ConfigError(
            f"--out {out} is in {labels}, where proposals would be taken for labels; choose another folder"
        )
    if photos == labelled or photos in labelled.parents:
        raise ConfigError(
            f"{labels} is in {folder}, where its masks would be taken for photos; "
            "give the folder of the photos alone"
        )


@dataclass(frozen=True)
class Memory:
    """What was done so that the memory has all labels."""

    built: bool
    images: int
    """Images of the data set."""
    added: int = 0
    replaced: int = 0


def bring_up_to_date(
    index: Path,
    dataset: Dataset,
    record: Record,
    *,
    recipe: Recipe,
    runtime: RuntimeSettings,
    skip_bad: bool = False,
    progress: Progress | None = None,
) -> Memory:
    """Build the index of the labelled images, or add what it lacks and replace what has other labels now.

    ``recipe`` is for a build; whether labels changed is known of those that the record has a digest of.
    Raises what building and adding do, and ConfigError for labels of whole images.
    """
    labels = {sample.id: sample.labels.key().sha256 for sample in dataset.samples}
    if not has_manifest(index):
        if resolve_level(recipe, dataset).whole:
            raise ConfigError(
                f"{dataset.root} has a class for each image, and no masks to learn from; "
                "give images with masks, or use `mycelia classify`"
            )
        report = build_index(dataset, index, recipe=recipe, skip_bad=skip_bad, progress=progress)
        record.keep_labels(labels, _identity(index))
        return Memory(True, report.images, added=report.images)
    known = record.labels_of(_identity(index))
    changed = {id for id, digest in labels.items() if known.get(id, digest) != digest}
    fresh = add_data(index, dataset, skip_bad=skip_bad, runtime=runtime, progress=progress)
    replaced = 0
    if changed:
        again = add_data(
            index,
            dataset.select(sorted(changed)),
            replace=True,
            skip_bad=skip_bad,
            runtime=runtime,
            progress=progress,
        )
        replaced = again.replaced
    record.keep_labels(labels, _identity(index))
    return Memory(False, len(dataset), fresh.added, replaced)


def _identity(index: Path) -> str:
    """What tells a memory from another: when it was built, which no later change of it changes."""
    return IndexFolder.open(index).manifest.created


def made_by(memory: Manifest, recipe: Recipe, more: Sequence[str] = ()) -> str:
    """Digest of all that decides a mask but the photo: the memory as it is now, and the settings."""
    settings = recipe.model_dump(mode="json", exclude={"runtime"})
    what = json.dumps([memory.to_json(), settings, *more], sort_keys=True)
    return hashlib.sha256(what.encode()).hexdigest()
