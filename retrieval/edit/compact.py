"""A smaller index of the same memory: its rows merged into prototypes (``retrieval.edit.prototypes``)."""

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

from retrieval.edit.convert import Advance, beside
from retrieval.edit.prototypes import (
    CELL_PASSES,
    Distillation,
    Prototypes,
    lloyd,
    merge,
    nearest_centres,
    rarity,
    share_out,
)
from retrieval.engines.faiss_types import training_rows
from retrieval.engines.qdrant.locate import local_folder
from retrieval.engines.qdrant.server import NO_WEIGHTS
from retrieval.errors import ConfigError
from retrieval.index import PatchIndex, create_index, open_index
from retrieval.settings import IndexSettings
from retrieval.similarity import Cosine, Reranked
from retrieval.store.files import PARTIAL, storage_errors
from retrieval.store.manifest import FORMAT
from retrieval.store.records import IMAGES, ImageRecord, read_images
from retrieval.store.row_file import RowFile
from retrieval.store.rows import RowStore

#: Rows of a cell, about, and at most: merging takes time with their square, and cells of one class are few.
CELL_ROWS, MAX_CELL_ROWS = 2048, 8192

#: Rows that place one cell, and those that place all cells of a class at most.
_SAMPLE_PER_CELL, _SAMPLE_ROWS = 64, 65_536

#: Rows looked at together.
_BLOCK = 1 << 14

Ids = npt.NDArray[np.int64]


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
        weights = self.rows.weights(ids)
        return torch.ones(len(ids)) if weights is None else torch.from_numpy(weights)

    def blocks(self) -> Iterator[Ids]:
        """All ids, some at a time."""
        for start in range(0, len(self), _BLOCK):
            yield np.arange(start, min(start + _BLOCK, len(self)), dtype=np.int64)


def compact_index(
    source: str | Path,
    out: str | Path,
    *,
    keep: float,
    settings: IndexSettings,
    how: Distillation | None = None,
    seed: int = 0,
    advance: Advance = lambda rows: None,
) -> CompactReport:
    """Merge the rows of the index ``source`` into about ``keep`` times as many in a new index ``out``.

    Each new row has the mean vector and label of the rows it stands for, and the position of the most
    central of them, so that votes can still be shown. Its weight is their number, scaled up for rare
    classes and so that all weights sum to the patches that the source stood for; an index that was
    compacted before favours rare classes once more. ``settings`` choose the new engine, ``how`` the
    merging; ``advance`` hears of rows, each twice: read, and merged. Rows without a label are left
    behind; images, features and thumbnails come along. An image that is removed from the new index
    takes along the rows positioned in it, and what other images gave to them. Needs room beside
    ``out`` for a copy of the vectors as float16; memory holds one cell of at most MAX_CELL_ROWS rows, a
    sample, and some 40 bytes a row. Raises ConfigError for a ``keep`` outside 0..1, the exact gradient
    similarity or a Qdrant server as the target, and what ``convert_index`` does.
    """
    if not 0 < keep < 1:
        raise ConfigError(f"keep is the share of rows to keep, above 0 and below 1, not {keep}")
    if settings.engine == "qdrant" and settings.qdrant.url is not None:
        raise ConfigError(NO_WEIGHTS)
    folder = local_folder(source)
    with open_index(folder) as index:
        if isinstance(index.similarity, Reranked):
            raise ConfigError("a re-ranked index cannot be compacted; build it with rerank.candidates=null")
        if not isinstance(index.similarity, Cosine):
            raise ConfigError(
                "an index of the exact gradient similarity (features.projection=none) cannot be compacted, "
                "since means of its vectors are no gradients; build it with features.projection=factored"
            )
        with beside(folder, Path(out)) as work, _spilled(index, work, advance) as spill:
            records = read_images(folder) if (folder / IMAGES).exists() else []
            found = _write(
                index, spill, work, records, settings, (keep, how or Distillation(), seed), advance
            )
        return CompactReport(len(index), found)


def normalised(labels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Soft labels that sum to 1: (n, C) uint8 -> (n, C) float32; zeros stay."""
    wide = labels.astype(np.float32)
    wide /= np.maximum(wide.sum(axis=1, keepdims=True), 1)
    return wide


@contextmanager
def _spilled(index: PatchIndex, work: Path, advance: Advance) -> Iterator[_Spill]:
    folder = work.with_name(f"{work.name}.rows{PARTIAL}")
    with storage_errors(folder):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
    rows = RowStore.create(folder, len(index.classes))
    spill = _Spill(RowFile(folder / "vectors.npy", (index.similarity.width,), np.float16), rows)
    try:
        for block in index.stream():
            kept = block.labels.any(axis=1)
            weights = None if block.weights is None else block.weights[kept]
            rows.append(block.labels[kept], block.patches[kept], weights)
            spill.vectors.append(block.vectors[kept])
            advance(len(block))
        if len(rows) == 0:
            raise ConfigError("the index holds no labelled patch to merge; add labelled images to it first")
        yield spill
    finally:
        rows.close()
        spill.vectors.close()
        shutil.rmtree(folder, ignore_errors=True)


def _write(
    index: PatchIndex,
    spill: _Spill,
    work: Path,
    records: list[ImageRecord],
    settings: IndexSettings,
    chosen: tuple[float, Distillation, int],
    advance: Advance,
) -> int:
    """Fill the new index in ``work``; how many rows it has."""
    keep, how, seed = chosen
    mass = sum((_mass(spill, ids) for ids in spill.blocks()), np.zeros(len(index.classes)))
    worth, patches = rarity(mass, how.weight_rarity), float(mass.sum())
    scale = patches / float(mass @ worth)
    cells = list(_cells(spill, seed))
    budget = _budgets(spill, cells, rarity(mass, how.budget_rarity), keep)
    manifest = index.manifest
    recipe = {**manifest.recipe, "index": settings.model_dump(mode="json")}
    counts = {name: count for name, count in manifest.counts.items() if name not in ("rows", "removed")}
    counts["patches"] = round(patches)
    manifest = replace(manifest, recipe=recipe, counts=counts, engine={}, files={}, format=FORMAT)
    spaced = np.arange(0, len(spill), math.ceil(len(spill) / training_rows(len(spill))))
    sample = spill.unit(spaced).numpy() if settings.engine == "faiss" else None
    value = torch.from_numpy((worth * scale).astype(np.float32))
    rows_of: Counter[int] = Counter()
    with create_index(work, manifest, rows=int(budget.sum()), sample=sample, settings=settings) as target:
        target.describe(records)
        for number, (ids, k) in enumerate(zip(cells, budget.tolist(), strict=True)):
            generator = torch.Generator().manual_seed(seed + number)
            labels, count = spill.labels(ids), spill.counts(ids)
            found = merge(
                spill.unit(ids),
                labels,
                count,
                count * (labels @ value),
                k,
                label_scale=how.label_scale,
                generator=generator,
            )
            places = spill.rows.patches(ids[found.central])
            _add(target, found, places)
            rows_of.update(places[:, 0].tolist())
            advance(len(ids))
        target.flush(images=[replace(r, patches=rows_of[r.number]) for r in records])
        return len(target)


def _add(target: PatchIndex, found: Prototypes, places: npt.NDArray[np.int32]) -> None:
    labels = torch.round(255 * found.labels).to(torch.uint8).numpy()
    target.add(found.vectors.numpy(), labels, places, weights=found.weights.numpy())


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
