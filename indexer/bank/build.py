"""From a data set to an index: streaming, resumable, with progress.

The rows are computed in parts of a fixed number of images; each part is a file that appears whole or
not at all. A part says which images, labels and features it was computed from, so a build that was
stopped computes only what is missing or has changed since, and the finished index equals that of an
uninterrupted build. The index appears under its own name only once it is complete.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from indexer.bank.describe import describe_jobs
from indexer.bank.describe_scaled import describe_scaled
from indexer.bank.describe_whole import describe_whole
from indexer.bank.fitting import fit_features
from indexer.bank.image_size import resolve_size
from indexer.bank.jobs import BankJob, jobs_of
from indexer.bank.level import resolve_level
from indexer.bank.parts import PART_IMAGES, Part, PartStore
from indexer.bank.room import check_room
from indexer.bank.sampling import choose_images
from indexer.bank.shares import Share, check_share, shared_features
from indexer.bank.versions import package_versions
from indexer.bank.workspace import CLASSES, Workspace, check_partial, partial_folder
from indexer.datasets import Dataset, Sample
from indexer.features.extractors import AnyExtractor, create_extractor
from indexer.features.whole.base import WholeExtractor
from indexer.recipe import Recipe
from retrieval import ImageRecord, Manifest, create_index
from retrieval.errors import DatasetError
from retrieval.progress import Progress, track
from retrieval.store.copying import copy_file, copy_folder
from retrieval.store.files import sha256_file, storage_errors, sync_tree
from retrieval.store.layout import FEATURES
from retrieval.store.staging import check_free


@dataclass(frozen=True)
class SkippedImage:
    """An image that a build or an evaluation skipped, and why."""

    id: str
    reason: str


@dataclass(frozen=True)
class BuildReport:
    """What a build made."""

    path: Path
    rows: int
    images: int
    skipped: tuple[SkippedImage, ...]
    seconds: float
    whole: bool = False
    """Whether its rows are whole images."""


def build_index(
    dataset: Dataset,
    out: str | Path,
    *,
    recipe: Recipe,
    skip_bad: bool = False,
    share: Share | None = None,
    progress: Progress | None = None,
) -> BuildReport:
    """Build the index of a labelled data set in the folder ``out``, or go on with a build that was stopped.

    What a stopped build has done counts where the images and labels that it read are unchanged. With
    ``share`` only that part of the images is described, into the collection of a Qdrant server that the
    other shares fill too; ``out`` gets the share's number appended, and the last share to finish
    completes the collection. ``skip_bad`` skips images and labels that cannot be used and reports
    them. ``progress`` hears how far the work is. Raises IndexExistsError where ``out`` is there
    already, IndexMismatchError where an unfinished build of another recipe or data set is, or other
    files are in its place, DataError for a bad image or mask, StorageError for a disk that is full or
    cannot hold the index, ConfigError where it does not fit into memory,
    ServerError. Whatever is raised, the parts that are done stay and the same call goes on from them.
    """
    start = time.monotonic()
    recipe = resolve_level(recipe, dataset)
    recipe.check_rules()
    _check_classes(dataset, whole=recipe.whole)
    engine = recipe.index.spec
    engine.require()
    out = Path(out)
    samples = choose_images(dataset, recipe.bank, seed=recipe.seed)
    jobs = jobs_of(samples, recipe.bank.epochs)
    if share is not None:
        check_share(engine)
        out, jobs = share.out(out), share.jobs(jobs)
    check_free(out)  # before the weights are fetched
    check_partial(out)
    if not skip_bad:
        replace(dataset, samples=tuple(samples)).check_files()
    extractor = create_extractor(_at_size(recipe, samples))
    manifest = _manifest(extractor, dataset)
    engine.check(manifest.similarity)
    engine.reach(recipe.index.section, manifest)
    check_room(extractor, jobs, out, partial_folder(out), total=len(samples), classes=len(dataset.classes))
    with Workspace.open(out, plan=_plan(extractor, dataset, samples, jobs)) as workspace:
        features = workspace.folder / FEATURES
        fit = partial(fit_features, extractor, workspace.folder, samples, dataset=dataset)
        fit = partial(fit, skip_bad=skip_bad, progress=progress)
        if share is None:
            fit()
        else:
            with shared_features(recipe.index, manifest, features) as known:
                if not known:
                    fit()
            extractor.load(features)
        store = PartStore(workspace.folder, jobs, features=sha256_file(features))
        compute_parts(
            extractor, store, dataset, workspace, total=len(samples), skip_bad=skip_bad, progress=progress
        )
        images, bad = store.images, store.skipped
        manifest = replace(manifest, counts={"images": images - len(bad)})
        rows = _assemble(extractor, store, workspace, manifest, share, progress)
    skipped = tuple(SkippedImage(id, reason) for id, reason in bad.items())
    seconds = time.monotonic() - start
    return BuildReport(out, rows, images - len(skipped), skipped, seconds, whole=recipe.whole)


def compute_parts(
    extractor: AnyExtractor,
    store: PartStore,
    dataset: Dataset,
    workspace: Workspace,
    *,
    total: int,
    skip_bad: bool,
    progress: Progress | None = None,
) -> None:
    """Compute every part that is not done; ``total`` is the number of images of the whole bank."""
    describe = describer(extractor, total=total)
    jobs, done = store.jobs, store.done(skip_bad=skip_bad)
    finished = sum(len(part_jobs) for number, part_jobs in store.parts() if number in done)
    with track(progress, "memory bank", len(jobs), done=finished) as task:
        for number, part_jobs in store.parts():
            if number not in done:
                part = describe(dataset, part_jobs, workspace.thumbs, skip_bad=skip_bad, task=task)
                with storage_errors(workspace.thumbs):
                    sync_tree(workspace.thumbs)  # with the part, which says that they are there
                store.write(number, part)


def describer(extractor: AnyExtractor, *, total: int) -> Callable[..., Part]:
    """What gives the rows of jobs: whole inputs, patches, or patches of tiles; ``total`` images share."""
    if isinstance(extractor, WholeExtractor):
        return partial(describe_whole, extractor)
    scaled = extractor.recipe.image.scale is not None
    return partial(describe_scaled if scaled else describe_jobs, extractor, total=total)


def _at_size(recipe: Recipe, samples: Sequence[Sample]) -> Recipe:
    """The recipe with the size at which images are seen; texts and recordings have none."""
    return resolve_size(recipe, samples) if recipe.backbone.kind == "image" else recipe


def _check_classes(dataset: Dataset, *, whole: bool) -> None:
    """Raise DatasetError where one class is all that there is to find."""
    if whole and len(dataset.classes) == 1:
        raise DatasetError(
            f"{dataset.classes.names[0]!r} is the only class of the images of {dataset.root}, "
            "and a memory of one class finds nothing else; add images of another class"
        )
    if dataset.found and len(dataset.classes) == 1:
        raise DatasetError(
            f"every mask of {dataset.root} holds the class id {dataset.classes.ids[0]} alone, "
            "and a memory of one class finds nothing else; add images with another class, "
            "or name the classes in classes.json"
        )


def _manifest(extractor: AnyExtractor, dataset: Dataset) -> Manifest:
    """What the index will say of itself, without the counts."""
    recipe = extractor.recipe.model_dump(mode="json", exclude={"runtime": True, "image": {"auto_size"}})
    return Manifest(
        recipe={**recipe, "runtime": {"precision": extractor.backbone.precision}},
        fingerprints=extractor.fingerprints,
        classes=dataset.classes,
        similarity=extractor.similarity,
        dataset={
            "name": dataset.name,
            "format": dataset.format,
            "split": dataset.split,
            "root": str(dataset.root),
        },
        packages=package_versions(),
    )


def _assemble(
    extractor: AnyExtractor,
    store: PartStore,
    workspace: Workspace,
    manifest: Manifest,
    share: Share | None,
    progress: Progress | None,
) -> int:
    """Engine, rows, images and manifest from the parts, in a fresh folder; the number of rows."""
    rows = store.count_rows()
    if rows == 0 and share is None:
        reasons = "; ".join(list(store.skipped.values())[:3])
        whole = extractor.recipe.whole
        nothing = "no image with a class can be read" if whole else "no labelled patch was found in any image"
        raise DatasetError(f"{manifest.dataset['root']}: {nothing}{': ' + reasons if reasons else ''}")
    folder = workspace.fresh_index_folder()
    recipe = extractor.recipe
    copy_file(workspace.folder / FEATURES, folder / FEATURES)
    copy_folder(workspace.thumbs, folder / workspace.thumbs.name)
    records: list[ImageRecord] = []
    with create_index(
        folder,
        manifest,
        rows=rows,
        sample=_training_sample(store, recipe, manifest, rows),  # free again once it has trained
        settings=recipe.index,
        share=None if share is None else (share.number, share.of),
    ) as index:
        with track(progress, "index", rows) as task:
            for part in store.read_all():
                index.announce(part.records)
                index.add(part.vectors.astype(np.float32), part.labels, part.patches)
                records += part.records
                task.advance(len(part.patches))
        index.flush(images=records, progress=progress)
    return rows


def _training_sample(
    store: PartStore, recipe: Recipe, manifest: Manifest, rows: int
) -> npt.NDArray[np.float32] | None:
    """What is searched of as many vectors as the engine trains with, (n, d) float32; None for none."""
    searched = manifest.similarity.searched
    settings = recipe.index.for_rows(rows, inner_product=searched.inner_product)
    wanted = settings.spec.rows_to_train(rows)
    if wanted == 0:
        return None
    return store.training_sample(rows, wanted, recipe.seed, width=searched.width)


def _plan(
    extractor: AnyExtractor, dataset: Dataset, samples: Sequence[Sample], jobs: Sequence[BankJob]
) -> dict[str, str]:
    """What must be the same for a stopped build to go on, as digests.

    All ``samples`` count, also those of other shares: their number decides how many patches each gives.
    """
    images = "\n".join(f"{sample.id} {sample.image} {sample.labels.name}" for sample in samples)
    numbers = " ".join(str(job.number) for job in jobs)
    classes = json.dumps(dataset.classes.to_json(), sort_keys=True)
    data = f"{images}\n{numbers}"
    return {
        **extractor.fingerprints,
        "runtime.precision": extractor.backbone.precision,
        "data set": hashlib.sha256(data.encode(errors="backslashreplace")).hexdigest(),
        CLASSES: hashlib.sha256(classes.encode()).hexdigest(),
        "number of images in a part": str(PART_IMAGES),
    }
