"""A smaller index of the same memory: prototypes stand for its rows (``retrieval.edit.prototypes``)."""

from __future__ import annotations

import math
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from retrieval.edit.convert import copy_attached, kept_records, successor
from retrieval.edit.prototypes import (
    CELL_PASSES,
    Prototypes,
    lloyd,
    make_prototypes,
    nearest_centres,
    rarity,
    share_out,
)
from retrieval.errors import ConfigError
from retrieval.folder import IndexFolder, create_index
from retrieval.index import PatchIndex
from retrieval.progress import Progress, Task, track
from retrieval.settings import IndexSettings
from retrieval.similarity import Similarity
from retrieval.store.commit import IndexFiles
from retrieval.store.files import storage_errors
from retrieval.store.row_file import RowFile
from retrieval.store.rows import RowStore
from retrieval.store.staging import staging

#: Rows of a cell, about, and at most: merging takes time with their square, and cells of one class are few.
CELL_ROWS, MAX_CELL_ROWS = 2048, 8192

#: Rows that place one cell, and those that place all cells of a class at most.
_SAMPLE_PER_CELL, _SAMPLE_ROWS = 64, 65_536

#: Rows looked at together.
_BLOCK = 1 << 14

Ids = npt.NDArray[np.int64]


@dataclass(frozen=True)
class CompactOptions:
    """How rows become prototypes; defaults chosen on CamVid's train split (``benchmarks/compaction.py``).

    ``keep`` is the share of rows to keep, in 0..1. ``label_scale`` is how much a difference of labels
    counts beside one of features; ``budget_rarity`` and ``weight_rarity`` are exponents that favour rare
    classes, 0 to treat all patches alike: by them a class's share f of the bank counts f^(1 - p) among
    the prototypes, and in the sum of their multiplicity. Same ``seed``, same index.
    """

    keep: float
    label_scale: float = 0.7
    budget_rarity: float = 0.3
    weight_rarity: float = 0.5
    seed: int = 0


@dataclass(frozen=True)
class CompactReport:
    """How many rows there were, and how many prototypes stand for them now."""

    rows: int
    prototypes: int


@dataclass(frozen=True)
class _Spill:
    """The live, labelled rows of an index in files of their own, where any of them can be had at any time."""

    vectors: RowFile
    rows: RowStore

    def __len__(self) -> int:
        return len(self.rows)

    def unit(self, ids: Ids) -> torch.Tensor:
        """Vectors of rows, (n, D) float32."""
        return torch.from_numpy(np.asarray(self.vectors.array()[ids], dtype=np.float32))

    def labels(self, ids: Ids) -> torch.Tensor:
        """Soft labels of rows, (n, C) float32 that sum to 1."""
        return torch.from_numpy(normalised(self.rows.labels(ids)))

    def counts(self, ids: Ids) -> torch.Tensor:
        """How many patches rows stand for, (n,) float32."""
        found = self.rows.multiplicity(ids)
        return torch.ones(len(ids)) if found is None else torch.from_numpy(found)

    def blocks(self) -> Iterator[Ids]:
        """All ids, some at a time."""
        for start in range(0, len(self), _BLOCK):
            yield np.arange(start, min(start + _BLOCK, len(self)), dtype=np.int64)


def compact_index(
    source: str | Path | IndexFolder,
    out: str | Path,
    *,
    options: CompactOptions,
    settings: IndexSettings,
    progress: Progress | None = None,
) -> CompactReport:
    """Make prototypes of the rows of the index ``source``, ``options.keep`` times as many, in a new index.

    Each new row has the mean vector and label of the rows it stands for, and the position of the most
    central of them, so that votes can still be shown. Its multiplicity is their number, scaled up for rare
    classes and so that all sum to the patches that the source stood for; an index that was
    compacted before favours rare classes once more. ``settings`` choose the new engine. Rows without a
    label are left behind; images, features and thumbnails come along. An image that is removed from the new
    index takes along the rows positioned in it, and what other images gave to them. Needs room beside
    ``out`` for a copy of the vectors as float16; memory holds one cell of at most MAX_CELL_ROWS rows, a
    sample, and some 40 bytes a row. Raises ConfigError for a ``keep`` outside 0..1, a similarity that is
    no inner product, or an engine that keeps no multiplicity, and what ``convert_index`` does.
    """
    if not 0 < options.keep < 1:
        raise ConfigError(f"keep is the share of rows to keep, above 0 and below 1, not {options.keep}")
    settings.spec.check_multiplicity()
    folder = IndexFolder.open(source)
    with folder.index() as index:
        _check_similarity(index.similarity)
        with staging(Path(out), "compact") as work:
            copy_attached(folder, work, kept_records(folder)[0])
            with _spilled(index, work / "rows", progress) as spill:
                found = _write(index, folder, spill, work, settings, options, progress)
        return CompactReport(len(index), found)


def _check_similarity(similarity: Similarity) -> None:
    """Raise ConfigError unless the mean of vectors is a vector of the same kind."""
    if similarity.reranked is not None:
        raise ConfigError("a re-ranked index cannot be compacted; build it with rerank.candidates=null")
    if not similarity.searched.inner_product:
        raise ConfigError(
            "an index of the exact gradient similarity (features.projection=none) cannot be compacted, "
            "since means of its vectors are no gradients; build it with features.projection=factored"
        )


def normalised(labels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Soft labels that sum to 1: (n, C) uint8 -> (n, C) float32; zeros stay."""
    wide = labels.astype(np.float32)
    wide /= np.maximum(wide.sum(axis=1, keepdims=True), 1)
    return wide


@contextmanager
def _spilled(index: PatchIndex, folder: Path, progress: Progress | None) -> Iterator[_Spill]:
    """The labelled rows in files of their own, in ``folder``, which goes in the end."""
    with storage_errors(folder):
        folder.mkdir()
    files = IndexFiles(folder)
    rows = RowStore.create(files, len(index.classes))
    spill = _Spill(RowFile(files, "vectors.npy", (index.similarity.width,), np.float16), rows)
    try:
        with track(progress, "reading", len(index)) as task:
            for block in index.stream():
                kept = block.labels.any(axis=1)
                multiplicity = None if block.multiplicity is None else block.multiplicity[kept]
                rows.append(block.labels[kept], block.patches[kept], multiplicity)
                spill.vectors.append(block.vectors[kept])
                task.advance(len(block))
        if len(rows) == 0:
            raise ConfigError("the index holds no labelled patch to merge; add labelled images to it first")
        yield spill
    finally:
        rows.close()
        spill.vectors.close()
        shutil.rmtree(folder, ignore_errors=True)


def _write(
    index: PatchIndex,
    folder: IndexFolder,
    spill: _Spill,
    work: Path,
    settings: IndexSettings,
    options: CompactOptions,
    progress: Progress | None,
) -> int:
    """Fill the new index in ``work``; how many rows it has."""
    mass = sum((_mass(spill, ids) for ids in spill.blocks()), np.zeros(len(index.classes)))
    worth, patches = rarity(mass, options.weight_rarity), float(mass.sum())
    value = torch.from_numpy((worth * (patches / float(mass @ worth))).astype(np.float32))
    cells = list(_cells(spill, options.seed))
    budget = _budgets(spill, cells, rarity(mass, options.budget_rarity), options.keep)
    rows = int(budget.sum())
    settings = settings.for_rows(rows, inner_product=index.similarity.searched.inner_product)
    manifest = successor(folder.manifest, settings)
    images, counts = kept_records(folder)
    manifest = replace(manifest, counts={**counts, "patches": round(patches)})
    with create_index(
        work,
        manifest,
        rows=rows,
        sample=_sample(spill, settings),  # free again once it has trained
        settings=settings,
    ) as target:
        target.announce(images)
        with track(progress, "merging", len(spill)) as task:
            rows_of = _fill(target, spill, cells, budget, value, options, task)
        records = [replace(record, patches=rows_of[record.number]) for record in images]
        target.flush(images=records, progress=progress)
        return len(target)


def _sample(spill: _Spill, settings: IndexSettings) -> npt.NDArray[np.float32] | None:
    """Evenly spaced vectors, as many as the engine trains with."""
    wanted = settings.spec.rows_to_train(len(spill))
    if wanted == 0:
        return None
    spaced = np.arange(0, len(spill), math.ceil(len(spill) / wanted))
    sample: npt.NDArray[np.float32] = spill.unit(spaced).numpy()
    return sample


def _fill(
    target: PatchIndex,
    spill: _Spill,
    cells: list[Ids],
    budget: npt.NDArray[np.int64],
    value: torch.Tensor,
    options: CompactOptions,
    task: Task,
) -> Counter[int]:
    """Add each cell's prototypes; how many rows each image number has now."""
    rows_of: Counter[int] = Counter()
    for number, (ids, k) in enumerate(zip(cells, budget.tolist(), strict=True)):
        labels, counts = spill.labels(ids), spill.counts(ids)
        found = make_prototypes(
            spill.unit(ids),
            labels,
            counts,
            counts * (labels @ value),
            k,
            label_scale=options.label_scale,
            generator=torch.Generator().manual_seed(options.seed + number),
        )
        places = spill.rows.patches(ids[found.central])
        _add(target, found, places)
        rows_of.update(places[:, 0].tolist())
        task.advance(len(ids))
    return rows_of


def _add(target: PatchIndex, found: Prototypes, places: npt.NDArray[np.int32]) -> None:
    labels = torch.round(255 * found.labels).to(torch.uint8).numpy()
    target.add(found.vectors.numpy(), labels, places, multiplicity=found.multiplicity.numpy())


def _mass(spill: _Spill, ids: Ids) -> npt.NDArray[np.float64]:
    """How many patches of each class rows stand for, (C,)."""
    found: npt.NDArray[np.float64] = (spill.counts(ids) @ spill.labels(ids)).double().numpy()
    return found


def _budgets(
    spill: _Spill, cells: list[Ids], worth: npt.NDArray[np.float64], keep: float
) -> npt.NDArray[np.int64]:
    """How many prototypes each cell gets."""
    value = torch.from_numpy(worth.astype(np.float32))
    importance = [float((spill.counts(ids) * (spill.labels(ids) @ value)).sum()) for ids in cells]
    sizes = np.array([len(ids) for ids in cells], dtype=np.int64)
    return share_out(np.array(importance), sizes, round(keep * len(spill)))


def _cells(spill: _Spill, seed: int) -> Iterator[Ids]:
    """The rows of each cell: of one dominant class, near each other, at most MAX_CELL_ROWS."""
    dominant = np.concatenate([spill.rows.labels(ids).argmax(axis=1) for ids in spill.blocks()])
    for column in np.unique(dominant).tolist():
        ids = np.flatnonzero(dominant == column).astype(np.int64)
        nearest = _place(spill, ids, torch.Generator().manual_seed(seed + column))
        for cell in np.unique(nearest).tolist():
            rows = ids[nearest == cell]
            # A dense cell is cut by stride, which spreads every image over the pieces.
            pieces = math.ceil(len(rows) / MAX_CELL_ROWS)
            yield from (rows[start::pieces] for start in range(pieces))


def _place(spill: _Spill, ids: Ids, generator: torch.Generator) -> npt.NDArray[np.int64]:
    """The cell of each row of one class, (n,) int64."""
    cells = round(len(ids) / CELL_ROWS)
    if cells <= 1:
        return np.zeros(len(ids), dtype=np.int64)
    size = min(len(ids), _SAMPLE_PER_CELL * cells, _SAMPLE_ROWS)
    chosen = torch.randperm(len(ids), generator=generator)[:size].sort().values.numpy()
    _, centres = lloyd(spill.unit(ids[chosen]), cells, passes=CELL_PASSES, generator=generator)
    starts = range(0, len(ids), _BLOCK)
    parts = [nearest_centres(spill.unit(ids[start : start + _BLOCK]), centres) for start in starts]
    found: npt.NDArray[np.int64] = torch.cat(parts).numpy()
    return found
