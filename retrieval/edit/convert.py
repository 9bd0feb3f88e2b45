"""From one engine to another: the rows of an index, streamed into a new one."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from retrieval.folder import IndexFolder, create_index
from retrieval.index import PatchIndex
from retrieval.progress import Progress, track
from retrieval.settings import IndexSettings
from retrieval.store.copying import copy_file
from retrieval.store.files import storage_errors
from retrieval.store.layout import FEATURES, thumbnail_name
from retrieval.store.manifest import DENSE, Manifest
from retrieval.store.records import ImageRecord, without_removed
from retrieval.store.rows import MULTIPLICITY
from retrieval.store.staging import staging


def convert_index(
    source: str | Path | IndexFolder,
    out: str | Path,
    *,
    settings: IndexSettings,
    progress: Progress | None = None,
) -> int:
    """Copy the live rows of the index ``source`` into a new one in ``out``; returns how many.

    ``settings`` choose the new engine. Vectors are copied as the old engine holds them, so what it
    rounded stays rounded. Row ids are given anew and removed images are left behind; everything else
    (multiplicity, images, features, thumbnails) comes along. ``out`` appears once it is complete. Raises
    IndexExistsError, ConfigError for rows that stand for several patches on an engine that keeps no such
    thing, and what opening and creating do.
    """
    folder = IndexFolder.open(source)
    with folder.index() as index, staging(Path(out), "convert") as work:
        if MULTIPLICITY in folder.manifest.files:
            settings.spec.check_multiplicity()
        records, counts = kept_records(folder)
        copy_attached(folder, work, records)
        rows = len(index)
        settings = settings.for_rows(rows, inner_product=index.similarity.searched.inner_product)
        with create_index(
            work,
            replace(successor(folder.manifest, settings), counts=counts),
            rows=rows,
            sample=_sample(index, rows, settings),  # free again once it has trained
            settings=settings,
        ) as target:
            target.announce(records)
            with track(progress, "converting", max(1, rows)) as task:
                for block in index.stream():
                    target.add(block.vectors, block.labels, block.patches, multiplicity=block.multiplicity)
                    task.advance(len(block))
            target.flush(images=records, progress=progress)
        return rows


def kept_records(folder: IndexFolder) -> tuple[list[ImageRecord], dict[str, int]]:
    """The records of images that are not removed, and the counts of an index of them alone."""
    records, counts = without_removed(folder.records, folder.manifest)
    return records, {name: count for name, count in counts.items() if name not in ("rows", "removed")}


def copy_attached(folder: IndexFolder, work: Path, records: Iterable[ImageRecord]) -> None:
    """Copy what neither rows nor engine make anew: the features, and the thumbnails of these images."""
    wanted = [FEATURES, *(thumbnail_name(record.number) for record in records)]
    for name in wanted:
        if name in folder.manifest.files:
            with storage_errors(work):
                (work / name).parent.mkdir(exist_ok=True)
            copy_file(folder.manifest.place(folder.path, name), work / name)


def successor(manifest: Manifest, settings: IndexSettings) -> Manifest:
    """The manifest of a new index of the same memory, whose rows are still to come."""
    counts = {name: count for name, count in manifest.counts.items() if name not in ("rows", "removed")}
    recipe = {**manifest.recipe, "index": settings.model_dump(mode="json")}
    if "device" in recipe.get("runtime", {}):  # older indexes say where they were built
        recipe.pop("runtime")
    return replace(
        manifest, recipe=recipe, counts=counts, engine={}, labels=dict(DENSE), files={}, generation=0
    )


def _sample(index: PatchIndex, rows: int, settings: IndexSettings) -> npt.NDArray[np.float32] | None:
    """What is searched of evenly spaced vectors, as many as the engine trains with: (n, d) float32."""
    wanted = settings.spec.rows_to_train(rows)
    if wanted == 0:
        return None
    step, width = math.ceil(rows / wanted), index.similarity.searched.width
    chosen, seen = [], 0
    for block in index.stream():
        chosen.append(block.vectors[-seen % step :: step, :width])
        seen += len(block)
    return np.concatenate(chosen)
