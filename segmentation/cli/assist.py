"""``mycelia assist``: masks proposed for photos without labels, and which of them to label next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from retrieval.errors import ConfigError
from segmentation.cli.arguments import (
    Config,
    Format,
    FreeOverrides,
    MaxPixels,
    SkipBad,
    Split,
    UnmaskedName,
    read_dataset,
    read_recipe,
)
from segmentation.cli.asked import Asked
from segmentation.cli.console import count_of, say, say_skipped, show
from segmentation.cli.exports import Export, ExportClasses, Exports, Tolerance
from segmentation.cli.overrides import changed_recipe, open_segmenter
from segmentation.cli.photo_jobs import Job, check_outputs, plan_jobs
from segmentation.cli.progress import ProgressDisplay

if TYPE_CHECKING:
    from indexer.recipe import Recipe
    from retrieval.classes import ClassMap
    from segmentation.assist.plan import Memory
    from segmentation.assist.record import Record
    from segmentation.segmenter import Segmenter

#: The memory's folder below the masks, where no other is named.
MEMORY = "memory.index"
#: ``transfer.unknown`` by which photos are ranked where none is set.
UNKNOWN = 0.05


@dataclass
class _Photos:
    """What becomes of each photo of the folder."""

    to_do: list[Job] = field(default_factory=list)
    done: list[Job] = field(default_factory=list)
    labelled: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    """Files of a person, below the folder of the masks."""
    large: list[str] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)


def assist(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of the photos.")],
    overrides: FreeOverrides = None,
    *,
    labels: Annotated[Path, typer.Option("--labels", help="Data set of the images that have labels.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the proposed masks and the list.")],
    index: Annotated[
        Path | None,
        typer.Option("--index", help="The memory, built where there is none; OUT/memory.index without."),
    ] = None,
    config: Config = None,
    split: Split = None,
    format: Format = "auto",
    export: Export = None,
    export_classes: ExportClasses = None,
    tolerance: Tolerance = None,
    most: Annotated[int, typer.Option("--next", min=1, help="Photos that the page shows.")] = 20,
    skip_bad: SkipBad = False,
    max_pixels: MaxPixels = None,
) -> None:
    """Propose masks for photos without labels, and say which of them to label next.

    The memory is built from the labelled images, or gets those it lacks. Each photo of FOLDER that is not
    among them gets OUT/NAME.png; OUT/next.html lists the photos whose labels would teach the most. Files
    in OUT that a person made or changed are never touched. Run it again after labelling more.

    \b
    Examples:
      mycelia assist photos --labels labelled --out proposals
      mycelia assist photos --labels labelled --out proposals --export labelme
      mycelia assist photos --labels labelled --out proposals --config fast.yaml transfer.unknown=0.01
    """
    from indexer.recipe import override_recipe
    from retrieval import IndexFolder
    from retrieval.store.manifest import has_manifest
    from segmentation.assist.plan import bring_up_to_date, check_places
    from segmentation.assist.record import Record

    check_places(folder, labels, out)
    exports = Exports.of(export, export_classes, tolerance)
    place = index or out / MEMORY
    record = Record(out)
    planned = plan_jobs([folder], record.staging, overlay=False, confidence=False, formats=exports.formats)
    check_outputs(planned, overwrite=True, shared=exports.shared_files(record.staging))
    _check_names(planned, record)
    dataset = read_dataset(labels, split=split, format=format, subset=None, unmasked=UnmaskedName.skip)
    if has_manifest(place):
        recipe = changed_recipe(IndexFolder.open(place), overrides)
    else:
        recipe = override_recipe(read_recipe(config, ())[1], list(overrides or ()))
    with record.locked():
        progress = ProgressDisplay()
        memory = bring_up_to_date(
            place,
            dataset,
            record,
            recipe=recipe,
            runtime=recipe.runtime,
            skip_bad=skip_bad,
            progress=progress,
        )
        opened = IndexFolder.open(place)
        recipe = changed_recipe(opened, overrides)
        with open_segmenter(opened, recipe) as segmenter:
            _propose(segmenter, recipe, planned, record, memory, exports, most=most, skip_bad=skip_bad)


def _check_names(planned: Sequence[Job], record: Record) -> None:
    from segmentation.assist.page import DATA, PAGE

    for job in planned:
        for name in _names(job, record):
            if name in (DATA, PAGE):
                raise ConfigError(
                    f"{job.image} would be written to {name}, the list's file; rename the photo"
                )


def _names(job: Job, record: Record) -> list[str]:
    """The files of a photo, below the folder of the masks."""
    return [path.relative_to(record.staging).as_posix() for path in job.outputs]


def _propose(
    segmenter: Segmenter,
    recipe: Recipe,
    planned: Sequence[Job],
    record: Record,
    memory: Memory,
    exports: Exports,
    *,
    most: int,
    skip_bad: bool,
) -> None:
    """Write what is missing, then the list; says on stdout what came of it."""
    from segmentation.assist.page import PAGE, Proposal, write_page
    from segmentation.assist.ranking import Measures, rank

    digest = _digest(segmenter, recipe, exports)
    photos = _sort(planned, record, segmenter, recipe, digest)
    each = exports.of_photos()
    with each.open(record.staging, segmenter.classes, [job.name for job in photos.to_do]) as exporter:
        asked = Asked.of(segmenter.classes, instances=None, min_area=1, thresholds=None, as_json=False)
        shared = [name for format in each.formats for name in format.companions]
        photos.kept += record.publish(shared) if photos.to_do and shared else []
        photos.done += _write_all(segmenter, photos, record, exporter, asked, digest, skip_bad=skip_bad)
    whole = replace(exports, formats=tuple(f for f in exports.formats if f.run_file is not None))
    photos.kept += _export_all(segmenter.classes, photos.done, record, whole) if whole.formats else []
    measured = [(job.name, Measures.from_json(record.photos[job.name].measures)) for job in photos.done]
    ranked = rank(measured)
    summary = _summary(photos, memory, segmenter)
    facts = {"kept": photos.kept, "labelled": photos.labelled, "left_out": photos.large}
    proposals = {job.name: Proposal(job.image, record.out / _names(job, record)[0]) for job in photos.done}
    photos.kept += write_page(
        record, ranked, proposals, segmenter.classes, summary=summary, facts=facts, most=most
    )
    _say(photos, summary)
    for number, photo in enumerate(ranked[:most], 1):
        show(f"{number}. {photo.name}: {'; '.join(photo.reasons)}")
    say(f"label these next: {record.out / PAGE}")


def _digest(segmenter: Segmenter, recipe: Recipe, exports: Exports) -> str:
    from segmentation.assist.plan import made_by

    return made_by(segmenter.index.manifest, recipe, [repr((exports.classes, exports.tolerance))])


def _sort(
    planned: Sequence[Job], record: Record, segmenter: Segmenter, recipe: Recipe, digest: str
) -> _Photos:
    """What is to do, and what is not, and why."""
    from retrieval.store.files import sha256_file
    from segmentation.cli.segment_large import is_large
    from segmentation.scoring.memory import MemoryImages

    photos, memory = _Photos(), MemoryImages(segmenter.images)
    for job in planned:
        names = _names(job, record)
        foreign = [name for name in names if record.is_foreign(name)]
        known = record.photos.get(job.name)
        if memory.numbers_of(job.image):
            photos.labelled.append(job.name)
        elif foreign:
            photos.kept += foreign
        elif job.raster is not None or is_large(job, recipe):
            photos.large.append(job.name)
        elif (
            known is not None
            and (known.made_by, known.content) == (digest, sha256_file(job.image))
            and all(map(record.is_ours, names))
        ):
            photos.done.append(job)
        else:
            photos.to_do.append(job)
    return photos


def _write_all(
    segmenter: Segmenter,
    photos: _Photos,
    record: Record,
    exporter: Any,
    asked: Asked,
    digest: str,
    *,
    skip_bad: bool,
) -> Iterator[Job]:
    """Segment what is to do and put it in place, photo by photo; gives those whose files are all there."""
    from retrieval.store.files import sha256_file
    from segmentation.assist.ranking import Measures
    from segmentation.assist.record import Photo
    from segmentation.cli.photo_results import segment_jobs, write_result
    from segmentation.pipeline import behind

    least = _least(segmenter)

    def write(item: Any) -> tuple[Job, list[str]]:
        photo, result = item
        job: Job = photo.job
        write_result(item, exporter, asked)
        about = Photo(sha256_file(job.image), digest, Measures.of(result, least).to_json())
        return job, record.publish(_names(job, record), job.name, about)

    bad = photos.skipped if skip_bad else None
    with closing(behind(segment_jobs(segmenter, photos.to_do, skipped=bad), write)) as written:
        for job, kept in written:
            photos.kept += kept
            if not kept:
                yield job


def _export_all(classes: ClassMap, done: Sequence[Job], record: Record, exports: Exports) -> list[str]:
    """Write the files of all proposals, from their masks; gives those in whose place a person's are."""
    import numpy as np
    from PIL import Image

    from segmentation.export import LabelledPhoto

    table = np.full(int(np.iinfo(classes.mask_dtype).max) + 1, -1, dtype=np.int32)
    table[classes.ids] = np.arange(len(classes), dtype=np.int32)
    with exports.open(record.staging, classes, [job.name for job in done]) as exporter:
        for job in done:
            with Image.open(record.out / _names(job, record)[0]) as file:
                mask = np.asarray(file)
            photo = LabelledPhoto(job.image, job.name, job.stem, mask, table[mask], None, exporter.settings)
            exporter.add(photo, palette=False)
    return record.publish(
        path.relative_to(record.staging).as_posix() for path in exports.shared_files(record.staging)
    )


def _least(segmenter: Segmenter) -> float | None:
    """The similarity below which a pixel is unlike the memory; None where the index cannot tell."""
    from segmentation.unknown import least_similarity

    share = segmenter.recipe.transfer.unknown or UNKNOWN
    try:
        return least_similarity(segmenter.index, segmenter.images, share)
    except ConfigError:
        return None


def _summary(photos: _Photos, memory: Memory, segmenter: Segmenter) -> str:
    ids = {record.id for record in segmenter.images if not record.removed}
    how = "built" if memory.built else f"{memory.added} added, {memory.replaced} with new labels"
    return (
        f"{count_of(len(photos.done), 'photo')} with proposals, {len(photos.labelled):,} labelled already; "
        f"memory of {count_of(len(ids), 'image')} ({how})"
    )


def _say(photos: _Photos, summary: str) -> None:
    say_skipped(photos.skipped)
    for name in photos.kept:
        say(f"kept {name}: a person made or changed it")
    for name in photos.large:
        say(f"left out {name}: a raster or a photo that is labelled in parts; use `mycelia segment`")
    show(summary)
