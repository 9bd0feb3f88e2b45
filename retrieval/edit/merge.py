"""Two indexes of the same features as one."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import safe_open

from retrieval.edit.classes import JoinedClasses, join_classes
from retrieval.edit.convert import successor
from retrieval.errors import ConfigError, IndexMismatchError
from retrieval.folder import IndexFolder, create_index
from retrieval.index import PatchIndex
from retrieval.neighbors import Rows
from retrieval.progress import Progress, track
from retrieval.settings import IndexSettings
from retrieval.store.copying import copy_file
from retrieval.store.files import storage_errors
from retrieval.store.layout import FEATURES, THUMBS, thumbnail_name
from retrieval.store.manifest import Manifest
from retrieval.store.paths import text_path
from retrieval.store.records import ImageRecord, built_records, without_removed
from retrieval.store.rows import MULTIPLICITY, move_columns
from retrieval.store.staging import staging

#: What decides whether vectors of two indexes can be compared, and what a person calls it.
_PARTS = {"weights": "weights", "preprocessing": "preprocessing", "recipe": "recipe of the features"}

#: Fitted tensors by the beginning of their names, and what a person calls them.
_FITTED = {"metric": "metric", "pca": "PCA", "support": "support bank", "negatives": "support bank"}


@dataclass(frozen=True)
class MergeReport:
    """What a merge made."""

    rows: int
    images: int
    added: tuple[str, ...]
    """Classes that only the second index had."""
    skipped: tuple[str, ...]
    """Ids of images of the second index that the first has too, and that were left out."""


@dataclass(frozen=True)
class _Plan:
    """Which images of the two indexes go where."""

    records: list[ImageRecord]
    numbers: tuple[dict[int, int], dict[int, int]]
    """Image number of each index -> the new one."""
    built: int
    """Images that the features were fitted on."""
    gone: int


def merge_indexes(
    first: str | Path | IndexFolder,
    second: str | Path | IndexFolder,
    out: str | Path,
    *,
    skip: bool = False,
    new_ids: bool = False,
    settings: IndexSettings | None = None,
    progress: Progress | None = None,
) -> MergeReport:
    """Copy the rows of two indexes into a new one in ``out``, which appears once it is complete.

    Vectors are copied as they are stored, on the engine of the first index unless ``settings`` say.
    Classes are joined by name as :func:`retrieval.edit.classes.join_classes`; images, thumbnails and the
    features come along, removed images do not. ``skip`` leaves out images of the second index that the
    first has too. Raises IndexMismatchError, naming what differs, where their vectors cannot be compared;
    ConfigError for a class id of two meanings, an image that both have, or a server without a name for the
    new collection; IndexExistsError, and what opening and creating do.
    """
    one, two = IndexFolder.open(first), IndexFolder.open(second)
    _check_features(one, two)
    if settings is None:
        if one.spec.many_writers:
            raise ConfigError(
                f"{one.path} is on a Qdrant server, where the new index needs a collection of its own; "
                "name it with --to qdrant --url and --collection, or choose another engine with --to"
            )
        settings = IndexSettings.model_validate(one.recipe.get("index") or {"engine": one.spec.name})
    if any(MULTIPLICITY in folder.manifest.files for folder in (one, two)):
        settings.spec.check_multiplicity()
    whole = (one.recipe.get("features") or {}).get("level") == "image"
    joined = join_classes(
        one.manifest.classes, two.manifest.classes, where=str(two.path), new_ids=new_ids or whole
    )
    with one.index() as left, two.index() as right:
        common = _common(one, two, skip=skip)
        plan = _plan(one, two, set(common))
        with staging(Path(out), "merge") as work:
            _copy_attached((one, two), work, plan)
            rows = _write((left, right), one, two, work, joined, plan, settings, progress)
    images = len({record.id for record in plan.records})
    return MergeReport(rows, images, joined.added, tuple(common))


def _check_features(one: IndexFolder, two: IndexFolder) -> None:
    """Raise IndexMismatchError where the two describe images differently."""
    a, b = one.manifest, two.manifest
    differ = [name for part, name in _PARTS.items() if a.fingerprints.get(part) != b.fingerprints.get(part)]
    if a.similarity != b.similarity:
        differ.append("similarity")
    if differ:
        raise IndexMismatchError(
            f"{one.path} and {two.path} were built with another {' and '.join(differ)}, so their vectors "
            "cannot be compared; build one of them again with the recipe of the other"
        )
    apart = _fitted_apart(one, two)
    if apart:
        raise IndexMismatchError(
            f"the {' and the '.join(apart)} of {one.path} and {two.path} were fitted apart, so their vectors "
            f"cannot be compared; add the images of the other with `mycelia index add {one.path} DATA`, or "
            "build one index of all of them"
        )


def _fitted_apart(one: IndexFolder, two: IndexFolder) -> list[str]:
    """What of the features of two indexes was fitted on other images, in words."""
    if FEATURES not in one.manifest.files or FEATURES not in two.manifest.files:
        return []
    if one.manifest.files[FEATURES].sha256 == two.manifest.files[FEATURES].sha256:
        return []
    tensors = [_tensors(folder.features) for folder in (one, two)]
    names = {
        name
        for name in tensors[0].keys() | tensors[1].keys()
        if name != "metric_key" and not _same(tensors[0].get(name), tensors[1].get(name))
    }
    return sorted({_FITTED.get(name.split("_")[0], f"tensor {name}") for name in names})


def _same(one: npt.NDArray[Any] | None, two: npt.NDArray[Any] | None) -> bool:
    return one is not None and two is not None and np.array_equal(one, two)


def _tensors(path: Path) -> dict[str, npt.NDArray[Any]]:
    with text_path(path) as name, safe_open(name, framework="numpy") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)


def _common(one: IndexFolder, two: IndexFolder, *, skip: bool) -> list[str]:
    """Ids of images that both have; raises ConfigError, naming the first, unless ``skip``."""
    there = {record.id for record in one.records if not record.removed}
    common = list(dict.fromkeys(r.id for r in two.records if not r.removed and r.id in there))
    if common and not skip:
        more = f" and {len(common) - 1:,} more" if len(common) > 1 else ""
        raise ConfigError(
            f"both {one.path} and {two.path} have the memory image {common[0]!r}{more}; remove it from one "
            "of them, or leave out those of the second with --skip"
        )
    return common


def _plan(one: IndexFolder, two: IndexFolder, left_out: set[str]) -> _Plan:
    """New numbers: those that the features were fitted on first, as ``drift_of`` counts them."""
    early: list[tuple[int, ImageRecord]] = []
    late: list[tuple[int, ImageRecord]] = []
    gone = 0
    for source, folder in enumerate((one, two)):
        built, later = built_records(folder.records, folder.manifest)
        gone += without_removed(folder.records, folder.manifest)[1].get("gone", 0)
        for records, kept in ((built, early), (later, late)):
            for record in records:
                if not record.removed and not (source and record.id in left_out):
                    kept.append((source, record))
    ordered = [*early, *late]
    numbers: tuple[dict[int, int], dict[int, int]] = ({}, {})
    for number, (source, record) in enumerate(ordered):
        numbers[source][record.number] = number
    records = [replace(record, number=number) for number, (_, record) in enumerate(ordered)]
    return _Plan(records, numbers, len({record.id for _, record in early}), gone)


def _copy_attached(folders: Sequence[IndexFolder], work: Path, plan: _Plan) -> None:
    """Copy the features and the thumbnails, these under their new numbers."""
    if FEATURES in folders[0].manifest.files:
        copy_file(folders[0].features, work / FEATURES)
    with storage_errors(work):
        (work / THUMBS).mkdir()
    for folder, numbers in zip(folders, plan.numbers, strict=True):
        for old, new in numbers.items():
            thumb = folder.thumbnail(old)
            if thumb is not None:
                copy_file(thumb, work / thumbnail_name(new))


def _write(
    indexes: tuple[PatchIndex, PatchIndex],
    one: IndexFolder,
    two: IndexFolder,
    work: Path,
    joined: JoinedClasses,
    plan: _Plan,
    settings: IndexSettings,
    progress: Progress | None,
) -> int:
    """Fill the new index in ``work``; how many rows it has."""
    rows = sum(map(len, indexes))
    settings = settings.for_rows(rows, inner_product=indexes[0].similarity.searched.inner_product)
    own = np.arange(len(one.manifest.classes), dtype=np.int64)
    with create_index(
        work,
        _manifest(one.manifest, two.manifest, joined, plan, settings),
        rows=rows,
        sample=_sample(indexes, rows, settings),
        settings=settings,
    ) as target:
        target.announce(plan.records)
        with track(progress, "merging", max(1, rows)) as task:
            for index, numbers, columns in zip(indexes, plan.numbers, (own, joined.columns), strict=True):
                for block in index.stream():
                    _add(target, block, numbers, columns)
                    task.advance(len(block))
        target.flush(images=plan.records, progress=progress)
        return len(target)


def _add(target: PatchIndex, block: Rows, numbers: dict[int, int], columns: npt.NDArray[np.int64]) -> None:
    """Add the rows of the images that have a new number."""
    new = np.array([numbers.get(number, -1) for number in block.patches[:, 0].tolist()], dtype=np.int32)
    kept = new >= 0
    patches = np.column_stack([new, block.patches[:, 1:]])[kept]
    labels = move_columns(block.labels[kept], columns, len(target.classes))
    multiplicity = None if block.multiplicity is None else block.multiplicity[kept]
    target.add(block.vectors[kept], labels, patches, multiplicity=multiplicity)


def _manifest(
    one: Manifest, two: Manifest, joined: JoinedClasses, plan: _Plan, settings: IndexSettings
) -> Manifest:
    """What the new index says of itself."""
    counts = {"images": plan.built} | ({"gone": plan.gone} if plan.gone else {})
    if "patches" in one.counts or "patches" in two.counts:
        counts["patches"] = sum(m.counts.get("patches", m.live_rows) for m in (one, two))
    dataset = {
        key: value if value == two.dataset.get(key) else f"{value}, {two.dataset.get(key)}"
        for key, value in one.dataset.items()
    }
    merged = replace(successor(one, settings), counts=counts, dataset=dataset)
    return merged if joined.classes == one.classes else merged.with_classes(joined.classes)


def _sample(
    indexes: Sequence[PatchIndex], rows: int, settings: IndexSettings
) -> npt.NDArray[np.float32] | None:
    """What is searched of evenly spaced vectors of all, as many as the engine trains with: (n, d) float32."""
    wanted = settings.spec.rows_to_train(rows)
    if wanted == 0:
        return None
    step = math.ceil(rows / wanted)

    def chosen() -> Iterator[npt.NDArray[np.float32]]:
        seen = 0
        for index in indexes:
            for block in index.stream():
                yield block.vectors[-seen % step :: step, : index.similarity.searched.width]
                seen += len(block)

    return np.concatenate(list(chosen()))
