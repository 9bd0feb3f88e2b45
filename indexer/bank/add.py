"""More labelled images for an index that is there: described by its own features, in commits of a few."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from indexer.bank.build import SkippedImage, describer
from indexer.bank.describe import thumb_of
from indexer.bank.image_size import shapes_of, warn_of_long
from indexer.bank.jobs import BankJob, jobs_of
from indexer.bank.level import resolve_level
from indexer.bank.parts import Part
from indexer.datasets import Dataset, MaskFile, Sample
from indexer.features.extractors import AnyExtractor, open_whole
from indexer.features.fungi import open_extractor
from indexer.recipe import RuntimeSettings, describes_images
from retrieval.classes import ClassMap
from retrieval.edit.add import AddReport, NewImage, add_images
from retrieval.edit.classes import JoinedClasses, join_classes
from retrieval.errors import ConfigError, IndexBusyError
from retrieval.folder import IndexFolder
from retrieval.progress import Progress, track
from retrieval.store.manifest import Manifest
from retrieval.store.records import ImageRecord

#: Images of one commit: what is held in memory at once, and what a killed run loses at most.
COMMIT_IMAGES = 32

#: How often a commit is tried again whose classes another process changed.
_ATTEMPTS = 5


@dataclass(frozen=True)
class AddDataReport:
    """What an addition of a data set did."""

    added: int
    """Images that were not there before."""
    replaced: int
    """Images that were there and have the new labels now."""
    there: int
    """Images that were there and were left as they are."""
    rows: int
    """Rows that were added."""
    classes: tuple[str, ...]
    """Names of the classes that the index did not have."""
    skipped: tuple[SkippedImage, ...]
    seconds: float
    features_seconds: float
    """How much of it the features took."""


@dataclass
class _Tally:
    added: int = 0
    replaced: int = 0
    rows: int = 0
    features: float = 0.0
    classes: list[str] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)


def add_data(
    index: str | Path,
    dataset: Dataset,
    *,
    replace: bool = False,
    skip_bad: bool = False,
    new_ids: bool = False,
    extractor: AnyExtractor | None = None,
    runtime: RuntimeSettings | None = None,
    commit_images: int = COMMIT_IMAGES,
    progress: Progress | None = None,
) -> AddDataReport:
    """Describe the images of a data set as those of the index were described, and add them to it.

    Recipe, weights and everything fitted stay those of the index; an image gives as many patches as one of
    the build. Classes are joined by name, and new ones appended; ``new_ids`` gives a new class a free id
    where the index uses its own for another. ``commit_images`` images at a time are committed: what is
    committed stays whatever happens, and the same call goes on from there, since images that are there (same
    id, same file) are counted and left alone. With ``replace`` they are described anew instead, with the
    labels that the data set has now, in the stead of what they gave before. ``extractor`` is the index's own
    where it is open already, else ``runtime`` says where it runs.

    Raises ConfigError where the data does not fit the index: other inputs, no masks, a class id of two
    meanings, another file under the id of an image that is there; IndexFileError and its kinds, WeightsError,
    DataError for a bad image or mask unless ``skip_bad``, StorageError, ServerError.
    """
    start = time.monotonic()
    folder = IndexFolder.open(index)
    manifest = folder.manifest
    _join(manifest.classes, dataset, index, new_ids=new_ids)  # before hours of work
    extractor = extractor or _open_extractor(folder, runtime)
    resolve_level(extractor.recipe, dataset)
    samples, there = _missing(folder.records, dataset.samples, index, replace=replace)
    if not skip_bad:
        dataclasses.replace(dataset, samples=tuple(samples)).check_files()
    if dataset.kind == "image" and not extractor.recipe.whole:
        warn_of_long(shapes_of(samples), extractor.recipe)
    tally = _Tally()
    with track(progress, "images", len(samples)) as task:
        for first in range(0, len(samples), commit_images):
            batch = samples[first : first + commit_images]
            began = time.monotonic()
            images = _describe(extractor, dataset, batch, manifest, skip_bad=skip_bad, tally=tally)
            tally.features += time.monotonic() - began
            if images:
                _commit(index, dataset, images, replace=replace, new_ids=new_ids, tally=tally)
            task.advance(len(batch))
    return AddDataReport(
        added=tally.added,
        replaced=tally.replaced,
        there=there,
        rows=tally.rows,
        classes=tuple(tally.classes),
        skipped=tuple(SkippedImage(id, reason) for id, reason in tally.skipped.items()),
        seconds=time.monotonic() - start,
        features_seconds=tally.features,
    )


def _open_extractor(folder: IndexFolder, runtime: RuntimeSettings | None) -> AnyExtractor:
    if describes_images(folder.recipe):
        return open_whole(folder.path, folder.manifest, runtime=runtime)
    return open_extractor(folder.path, folder.manifest, runtime=runtime)


def _join(known: ClassMap, dataset: Dataset, index: object, *, new_ids: bool) -> JoinedClasses:
    """The classes of index and data set; ids matter where mask files hold them."""
    in_masks = any(isinstance(s.labels, MaskFile) and s.labels.colors is None for s in dataset.samples)
    where = str(dataset.root)
    joined = join_classes(known, dataset.classes, where=where, new_ids=new_ids or not in_masks)
    if joined.added and dataset.found:
        raise ConfigError(
            f"nobody named the classes of {where}, and {index} has none called {joined.added[0]!r}; name "
            f"them in {dataset.root / 'classes.json'}, as the index does: {', '.join(known.names[:8])}"
        )
    return joined


def _missing(
    records: Sequence[ImageRecord], samples: Sequence[Sample], index: object, *, replace: bool
) -> tuple[list[Sample], int]:
    """The samples to describe, and how many more are there already."""
    if replace:
        return list(samples), 0
    known = {record.id: record.sha256 for record in records if not record.removed}
    for sample in samples:
        if sample.id in known and sample.source_key().sha256 != known[sample.id]:
            raise ConfigError(
                f"{index} has another image with the id {sample.id!r} than {sample.image}; put this one in "
                "its place with `mycelia index replace`, or rename it"
            )
    missing = [sample for sample in samples if sample.id not in known]
    return missing, len(samples) - len(missing)


def _describe(
    extractor: AnyExtractor,
    dataset: Dataset,
    samples: Sequence[Sample],
    manifest: Manifest,
    *,
    skip_bad: bool,
    tally: _Tally,
) -> list[NewImage]:
    """The rows of a few images, with labels in the data set's own columns."""
    built = manifest.counts.get("images") or len(samples)
    describe = describer(extractor, total=built)
    jobs = jobs_of(samples, extractor.recipe.bank.epochs)
    with tempfile.TemporaryDirectory(prefix="mycelia-add-") as name, track(None, "", len(jobs)) as task:
        thumbs = Path(name)
        part = describe(dataset, jobs, thumbs, skip_bad=skip_bad, task=task)
        tally.skipped |= part.skipped
        return _split(part, jobs, thumbs)


def describe_new(extractor: AnyExtractor, dataset: Dataset, manifest: Manifest) -> list[NewImage]:
    """The rows of a few images as :func:`add_data` makes them, for whoever commits them himself.

    Labels are in the columns of the data set's classes. Raises DataError for a bad image or mask.
    """
    return _describe(extractor, dataset, dataset.samples, manifest, skip_bad=False, tally=_Tally())


def _split(part: Part, jobs: Sequence[BankJob], thumbs: Path) -> list[NewImage]:
    """The rows of a part, image by image."""
    job_of = {job.number: job for job in jobs}
    images = []
    for record in part.records:
        if record.id in part.skipped:  # another epoch of it was bad: all or nothing
            continue
        rows = part.patches[:, 0] == record.number
        thumb = thumb_of(job_of[record.number], thumbs)
        images.append(
            NewImage(
                record,
                part.vectors[rows].astype(np.float32),
                part.labels[rows],
                part.patches[rows, 1:],
                thumb.read_bytes() if thumb.is_file() else None,
            )
        )
    return images


def _commit(
    index: str | Path,
    dataset: Dataset,
    images: Sequence[NewImage],
    *,
    replace: bool,
    new_ids: bool,
    tally: _Tally,
) -> None:
    """Add images in one commit, with the classes that the index has by now."""
    for attempt in range(_ATTEMPTS):
        joined = _join(IndexFolder.open(index).manifest.classes, dataset, index, new_ids=new_ids)
        moved = [_moved(image, joined) for image in images]
        try:
            report = add_images(index, moved, classes=joined.classes, replace_known=replace)
            break
        except IndexBusyError:
            if attempt == _ATTEMPTS - 1:
                raise
    _count(report, images, joined, tally)


def _count(report: AddReport, images: Sequence[NewImage], joined: JoinedClasses, tally: _Tally) -> None:
    tally.rows += report.rows
    tally.replaced += len(report.replaced)
    tally.added += len({image.record.id for image in images}) - len(report.replaced)
    tally.classes += joined.added


def _moved(image: NewImage, joined: JoinedClasses) -> NewImage:
    """The image with its labels in the columns of the joined classes."""
    labels: Any = np.zeros((len(image.labels), len(joined.classes)), dtype=np.uint8)
    labels[:, joined.columns] = image.labels
    return NewImage(image.record, image.vectors, labels, image.places, image.thumbnail)
