"""From one engine to another: the rows of an index, streamed into a new one."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from retrieval.engines import exact, faiss, rerank
from retrieval.engines.faiss_types import training_rows
from retrieval.engines.qdrant.locate import local_folder
from retrieval.engines.qdrant.server import NO_WEIGHTS
from retrieval.errors import ConfigError, IndexExistsError
from retrieval.index import PatchIndex, create_index, open_index
from retrieval.settings import IndexSettings
from retrieval.similarity import searched_width
from retrieval.store.files import PARTIAL, PENDING, storage_errors
from retrieval.store.label_file import LABELS
from retrieval.store.manifest import DENSE, FORMAT, GENERATION, MANIFEST
from retrieval.store.records import IMAGES, ImageRecord, read_images
from retrieval.store.rows import PATCHES, REMOVED, WEIGHTS

#: Called with the number of rows done since the last call.
Advance = Callable[[int], None]

#: Files that a row store or an engine makes anew.
_OWN = (
    *(MANIFEST, IMAGES, LABELS, PATCHES, REMOVED, WEIGHTS),
    *(exact.VECTORS, faiss.VECTORS, rerank.ROWS),
)


def convert_index(
    source: str | Path,
    out: str | Path,
    *,
    settings: IndexSettings,
    advance: Advance = lambda rows: None,
) -> int:
    """Copy the live rows of the index ``source`` into a new one in ``out``; returns how many.

    ``settings`` choose the new engine, ``advance`` hears of rows as they are done. Vectors are
    copied as the old engine holds them, so what it rounded stays rounded. Row ids are given anew
    and removed rows are left behind; everything else (weights, images, features, thumbnails) comes along.
    ``out`` appears once it is complete. Raises IndexExistsError, ConfigError for weighted rows on a
    server, and what opening and creating do.
    """
    folder = local_folder(source)
    with open_index(folder) as index, beside(folder, Path(out)) as work:
        records = read_images(folder) if (folder / IMAGES).exists() else []
        return _copy_rows(index, work, records, settings, advance)


@contextmanager
def beside(folder: Path, out: Path) -> Iterator[Path]:
    """A folder for a new index, with the files of ``folder`` that no engine owns; ``out`` in the end.

    Left by an error, it stays ``out``'s ``.partial``. Raises IndexExistsError and StorageError.
    """
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise IndexExistsError(f"{out} is there already; choose another --out or delete it first")
    work = out.with_name(f"{out.name}.partial")
    with storage_errors(out.parent):
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
    with storage_errors(work):
        _copy_files(folder, work)
    yield work
    with storage_errors(out.parent):
        if out.is_dir():
            out.rmdir()
        work.replace(out)


def _copy_files(folder: Path, work: Path) -> None:
    """Everything in the folder that is neither the engine's nor the row store's."""
    for path in sorted(folder.iterdir()):
        if path.is_dir() and not path.name.startswith(GENERATION):
            shutil.copytree(path, work / path.name)
        elif path.is_file() and path.name not in _OWN and path.suffix not in (PENDING, PARTIAL):
            shutil.copy2(path, work / path.name)


def _copy_rows(
    index: PatchIndex, work: Path, records: list[ImageRecord], settings: IndexSettings, advance: Advance
) -> int:
    rows, manifest = len(index), index.manifest
    counts = {name: count for name, count in manifest.counts.items() if name not in ("rows", "removed")}
    recipe = {**manifest.recipe, "index": settings.model_dump(mode="json")}
    if settings.engine == "qdrant" and settings.qdrant.url is not None and WEIGHTS in manifest.files:
        raise ConfigError(NO_WEIGHTS)
    manifest = replace(
        manifest, recipe=recipe, counts=counts, engine={}, labels=dict(DENSE), files={}, format=FORMAT
    )
    with create_index(
        work,
        manifest,
        rows=rows,
        sample=_sample(index, rows) if settings.engine == "faiss" else None,  # free again once it has trained
        settings=settings,
    ) as target:
        target.describe(records)
        for block in index.stream():
            target.add(block.vectors, block.labels, block.patches, weights=block.weights)
            advance(len(block))
        target.flush(images=records)
    return rows


def _sample(index: PatchIndex, rows: int) -> npt.NDArray[np.float32]:
    """What is searched of evenly spaced vectors, as many as train an index of ``rows``: (n, d) float32."""
    step, width = max(1, math.ceil(rows / max(1, training_rows(rows)))), searched_width(index.similarity)
    chosen, seen = [np.empty((0, width), np.float32)], 0
    for block in index.stream():
        chosen.append(block.vectors[-seen % step :: step, :width])
        seen += len(block)
    return np.concatenate(chosen)
