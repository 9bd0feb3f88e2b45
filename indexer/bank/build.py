"""From a data set to an index: streaming, resumable, with progress.

The rows are computed in parts of a fixed number of images; each part is a file that appears whole or
not at all. A part says which images, labels and features it was computed from, so a build that was
stopped computes only what is missing or has changed since, and the finished index equals that of an
uninterrupted build. The index appears under its own name only once it is complete.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from indexer.bank.describe import describe_jobs
from indexer.bank.fitting import fit_features
from indexer.bank.jobs import jobs_of
from indexer.bank.parts import PartStore
from indexer.bank.sampling import choose_images
from indexer.bank.shares import Share, check_share, reach_server, server_progress, shared_features
from indexer.bank.versions import package_versions
from indexer.bank.workspace import Workspace, check_free, check_partial
from indexer.datasets import Dataset
from indexer.features.fungi import FEATURES_FILE, FungiExtractor
from indexer.recipe import Recipe
from retrieval import ImageRecord, Manifest, create_index
from retrieval.engines.faiss_types import load_faiss, training_rows
from retrieval.engines.qdrant.edge import load_edge
from retrieval.engines.qdrant.server import ServerIndex
from retrieval.errors import ConfigError, DatasetError
from retrieval.progress import Progress, track
from retrieval.similarity import searched_width
from retrieval.store.files import sha256_file, storage_errors


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
    files are in its place, DataError for a bad image or mask, StorageError for a full disk,
    ServerError. Whatever is raised, the parts that are done stay and the same call goes on from them.
    """
    start = time.monotonic()
    check_engine(recipe)
    out = Path(out)
    samples = choose_images(dataset, recipe.bank, seed=recipe.seed)
    jobs = jobs_of(samples, recipe.bank.epochs)
    if share is not None:
        check_share(recipe)
        out, jobs = share.out(out), share.jobs(jobs)
    check_free(out)  # before the weights are fetched
    check_partial(out)
    if not skip_bad:
        replace(dataset, samples=tuple(samples)).check_files()
    extractor = FungiExtractor.create(recipe)
    manifest = _manifest(extractor, dataset)
    reach_server(recipe, manifest)
    with Workspace.open(out, fingerprints=extractor.fingerprints, dataset=dataset, jobs=jobs) as workspace:
        features = workspace.folder / FEATURES_FILE
        if share is None:
            fit_features(extractor, workspace.folder, samples, skip_bad=skip_bad, progress=progress)
        else:
            with shared_features(recipe, manifest, features) as known:
                if not known:
                    fit_features(extractor, workspace.folder, samples, skip_bad=skip_bad, progress=progress)
            extractor.load(features)
        store = PartStore(workspace.folder, jobs, features=sha256_file(features))
        compute_parts(
            extractor, store, dataset, workspace, total=len(samples), skip_bad=skip_bad, progress=progress
        )
        images, bad = store.images, store.skipped
        manifest = replace(manifest, counts={"images": images - len(bad)})
        rows = _assemble(extractor, store, workspace, manifest, share, progress)
        workspace.publish()
    skipped = tuple(SkippedImage(id, reason) for id, reason in bad.items())
    return BuildReport(out, rows, images - len(skipped), skipped, time.monotonic() - start)


def check_engine(recipe: Recipe) -> None:
    """Raise ConfigError for settings that no engine can serve, before any work is done.

    Raises MissingExtraError where an embedded engine is asked for and not installed.
    """
    features = recipe.features
    if features.kind == "fungi" and features.projection == "none":
        if features.pca is not None:
            raise ConfigError(
                "features.pca needs a projected gradient; with features.projection=none leave it empty"
            )
        if recipe.index.engine != "exact":
            raise ConfigError(
                f"features.projection=none needs index.engine=exact, not {recipe.index.engine}: "
                "its similarity is no inner product"
            )
        if recipe.reranks:
            raise ConfigError(
                "features.projection=none orders all neighbours by the exact similarity already; leave "
                "rerank.candidates empty, or choose features.projection=factored or features.kind=embeddings"
            )
    if recipe.reranks and recipe.index.engine == "qdrant":
        raise ConfigError(
            "rerank.candidates needs index.engine=faiss or exact, not qdrant: "
            "a Qdrant index keeps no second vector to re-rank by"
        )
    if recipe.index.engine == "faiss":
        load_faiss()
    elif recipe.index.engine == "qdrant" and recipe.index.qdrant.url is None:
        load_edge()


def compute_parts(
    extractor: FungiExtractor,
    store: PartStore,
    dataset: Dataset,
    workspace: Workspace,
    *,
    total: int,
    skip_bad: bool,
    progress: Progress | None = None,
) -> None:
    """Compute every part that is not done; ``total`` is the number of images of the whole bank."""
    jobs, done = store.jobs, store.done(skip_bad=skip_bad)
    finished = sum(len(part_jobs) for number, part_jobs in store.parts() if number in done)
    with track(progress, "memory bank", len(jobs), done=finished) as task:
        for number, part_jobs in store.parts():
            if number not in done:
                part = describe_jobs(
                    extractor,
                    dataset,
                    part_jobs,
                    workspace.thumbs,
                    total=total,
                    skip_bad=skip_bad,
                    task=task,
                )
                store.write(number, part)


def _manifest(extractor: FungiExtractor, dataset: Dataset) -> Manifest:
    """What the index will say of itself, without the counts."""
    return Manifest(
        recipe=extractor.recipe.model_dump(mode="json", exclude={"runtime"}),
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
    extractor: FungiExtractor,
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
        raise DatasetError(
            f"{manifest.dataset['root']}: no labelled patch was found in any image"
            f"{': ' + reasons if reasons else ''}"
        )
    folder = workspace.fresh_index_folder()
    recipe = extractor.recipe
    with storage_errors(folder):
        shutil.copy2(workspace.folder / FEATURES_FILE, folder / FEATURES_FILE)
        (folder / workspace.thumbs.name).mkdir()
        # one by one: copytree would hide a full disk in an error of its own
        for thumb in sorted(workspace.thumbs.iterdir()):
            shutil.copy2(thumb, folder / workspace.thumbs.name / thumb.name)
    records: list[ImageRecord] = []
    trained = recipe.index.engine == "faiss" and rows > 0
    width, limit = searched_width(manifest.similarity), training_rows(rows)
    with create_index(
        folder,
        manifest,
        rows=rows,
        # free again once it has trained
        sample=store.training_sample(rows, limit, recipe.seed, width=width) if trained else None,
        settings=recipe.index,
    ) as index:
        with track(progress, "index", rows) as task:
            for part in store.read_all():
                index.describe(part.records)
                index.add(part.vectors.astype(np.float32), part.labels, part.patches)
                records += part.records
                task.advance(len(part.patches))
        if isinstance(index, ServerIndex):
            index.shard = None if share is None else (share.number, share.of)
            with server_progress(index, progress):
                index.flush(images=records)
        else:
            index.flush(images=records)
    return rows
