"""Whether a build finds room, asked before any work: bytes of disk and of memory, by simple arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from indexer.bank.jobs import BankJob
from indexer.bank.parts import PART_IMAGES
from indexer.bank.sampling import patches_per_image
from indexer.features.extractors import AnyExtractor
from indexer.features.whole.base import WholeExtractor
from retrieval.engines.spec import EngineSpec
from retrieval.store.copying import allocated_bytes
from retrieval.store.room import check_disk, check_memory

#: Bytes of a number of a vector: in a part (float16), while it is made (float32), and in a code at least.
_PART, _FLOAT, _CODE = 2, 4, 1

#: Bytes of a row's place: image number, grid row and grid column, int32.
_PLACE = 12

#: Bytes of a thumbnail, about, and how many of it there are in the end: in the workspace, and in the index.
_THUMB, _COPIES = 4_000, 2


@dataclass(frozen=True)
class Need:
    """Bytes that a build takes at least, where every image has labels everywhere."""

    rows: int
    disk: int
    memory: int


def need_of(extractor: AnyExtractor, jobs: Sequence[BankJob], *, total: int, classes: int) -> Need:
    """What the rows of ``jobs`` take, of ``total`` images that share the bank's patches.

    Disk: the parts hold each row as float16 with a byte for each class and its place; beside them the
    finished index holds it again, at least as a byte a number. Memory: the rows of one part, as float32
    and as float16; for an engine that is trained its sample as float32 and all rows, at least as a byte
    a number.
    """
    similarity, each = extractor.similarity, _rows_of_image(extractor, total)
    rows, width, searched = each * len(jobs), similarity.width, similarity.searched.width
    spec = extractor.recipe.index.for_rows(rows, inner_product=similarity.searched.inner_product).spec
    part = _PART * width + classes + _PLACE
    stored = 0 if spec.many_writers else _CODE * width + _PLACE
    thumbs = _COPIES * _THUMB * sum(job.epoch == 0 for job in jobs)
    return Need(
        rows=rows,
        disk=rows * (part + stored) + thumbs,
        memory=min(len(jobs), PART_IMAGES) * each * (part + _FLOAT * width) + _held(spec, rows, searched),
    )


def check_room(
    extractor: AnyExtractor, jobs: Sequence[BankJob], out: Path, partial: Path, *, total: int, classes: int
) -> None:
    """Raise StorageError or ConfigError, with the numbers, where a build of ``jobs`` cannot find room.

    What an earlier run has left in ``partial`` need not be written again.
    """
    need = need_of(extractor, jobs, total=total, classes=classes)
    what = f"building an index of {need.rows:,} rows of {extractor.similarity.width} numbers"
    done = allocated_bytes(partial) if partial.is_dir() else 0
    cure = "" if isinstance(extractor, WholeExtractor) else ", or keep fewer patches (bank.max_patches)"
    check_disk(out.parent, need.disk - done, what, instead=cure)
    check_memory(need.memory, what, instead=cure)


def _rows_of_image(extractor: AnyExtractor, total: int) -> int:
    if isinstance(extractor, WholeExtractor):
        return 1
    return patches_per_image(extractor.recipe.bank, images=max(1, total), tokens=extractor.backbone.tokens)


def _held(spec: EngineSpec, rows: int, width: int) -> int:
    trained = spec.rows_to_train(rows)
    return 0 if trained == 0 else trained * _FLOAT * width + rows * _CODE * width
