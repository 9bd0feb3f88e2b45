"""From a data set to an index: streaming, resumable, with progress.

The rows are computed in parts of a fixed number of images; each part is a file that appears whole or
not at all. A build that was stopped goes on with the first missing part, and since a part depends
on nothing but the recipe and its own images, the finished index equals that of an uninterrupted
build. The index appears under its own name only once it is complete.
"""

from __future__ import annotations

import importlib.metadata
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from indexer.bank.parts import BankJob, PartStore, compute_part, jobs_of
from indexer.bank.sampling import choose_images
from indexer.bank.shards import Shard, check_shard, reach_server, server_progress, shared_features
from indexer.bank.workspace import Workspace, check_free
from indexer.datasets import Dataset, Sample
from indexer.features.fungi import FEATURES_FILE, FungiExtractor
from indexer.images import read_image
from indexer.progress import track
from indexer.recipe import Recipe
from retrieval import ImageRecord, Manifest, create_index
from retrieval.engines.faiss_types import load_faiss, training_rows
from retrieval.engines.qdrant.edge import load_edge
from retrieval.engines.qdrant.server import ServerIndex
from retrieval.errors import ConfigError, DataError, DatasetError
from retrieval.progress import Progress
from retrieval.similarity import searched_width
from retrieval.store.files import atomic_write, storage_errors

#: Images whose patches fit the support bank and the PCA.
FIT_IMAGES = 128


@dataclass(frozen=True)
class SkippedImage:
    """An image that a build or an evaluation went past, and why."""

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
    shard: Shard | None = None,
    progress: Progress | None = None,
) -> BuildReport:
    """Build the index of a labelled data set in the folder ``out``, or go on with a build that was stopped.

    With ``shard`` only its share of the images is described, into the collection of a Qdrant server
    that the other shards fill too; ``out`` gets the shard's number appended, and the last shard to
    finish completes the collection. ``skip_bad`` goes on past images or masks that cannot be used and
    reports them. Raises IndexExistsError where ``out`` is there already, IndexMismatchError where an
    unfinished build of another recipe or data set is, DataError for a bad image or mask,
    StorageError for a full disk, ServerError. Whatever is raised, the parts that are done stay and
    the same call goes on from them.
    """
    start = time.monotonic()
    check_engine(recipe)
    out = Path(out)
    samples = choose_images(dataset, recipe.bank, seed=recipe.seed)
    everything = jobs_of(samples, recipe.bank.epochs)
    jobs = everything
    if shard is not None:
        check_shard(recipe)
        out, jobs = shard.out(out), shard.jobs(everything)
    check_free(out)  # before the weights are fetched
    if not skip_bad:
        replace(dataset, samples=tuple(samples)).check_files()
    extractor = FungiExtractor.create(recipe)
    manifest = _manifest(extractor, dataset)
    reach_server(recipe, manifest)
    with Workspace.open(out, fingerprints=extractor.fingerprints, dataset=dataset, jobs=jobs) as workspace:
        path = workspace.folder / FEATURES_FILE
        with shared_features(recipe, manifest, path) if shard is not None else nullcontext():
            fit_extractor(extractor, workspace, dataset, everything, skip_bad=skip_bad)
        if shard is not None:
            extractor.load(path)
        store = PartStore(workspace.folder, jobs)
        total = sum(job.epoch == 0 for job in everything)
        compute_parts(extractor, store, dataset, workspace, total=total, skip_bad=skip_bad)
        images, bad = store.images, store.skipped
        manifest = replace(manifest, counts={"images": images - len(bad)})
        rows = _assemble(extractor, store, workspace, manifest, shard)
        workspace.publish()
    skipped = tuple(SkippedImage(id, reason) for id, reason in bad.items())
    return BuildReport(out, rows, images - len(skipped), skipped, time.monotonic() - start)


def package_versions() -> dict[str, str]:
    """Versions of what decides the numbers, for the manifest."""
    engines = ("faiss-cpu", "faiss-gpu", "qdrant-client", "qdrant-edge-py")
    names = ("mycelia", "torch", "timm", "numpy", "pillow", *engines)
    found = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


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


def fit_extractor(
    extractor: FungiExtractor, workspace: Workspace, dataset: Dataset, jobs: list[BankJob], *, skip_bad: bool
) -> None:
    """Fit support bank and PCA on an even choice of memory images, or read what an earlier run fitted."""
    path = workspace.folder / FEATURES_FILE
    if path.is_file():
        extractor.load(path)
        return
    fit_on_samples(extractor, [job.sample for job in jobs if job.epoch == 0], skip_bad=skip_bad)
    with atomic_write(path) as file:
        file.write(extractor.to_bytes())


def fit_on_samples(
    extractor: FungiExtractor,
    samples: Sequence[Sample],
    *,
    skip_bad: bool = False,
    progress: Progress | None = None,
) -> None:
    """Fit support bank and PCA, where the recipe has them, on an even choice of the samples' images.

    Raises ImageError for a bad image unless ``skip_bad``.
    """
    if not extractor.passes_to_fit:
        return
    chosen = [samples[i] for i in np.unique(np.linspace(0, len(samples) - 1, FIT_IMAGES).round().astype(int))]
    with track("fitting features", len(chosen) * extractor.passes_to_fit) as task:

        def batches() -> Iterator[torch.Tensor]:
            batch: list[torch.Tensor] = []
            for sample in chosen:
                try:
                    batch.append(extractor.prepare(read_image(sample.image))[0])
                except DataError:
                    if not skip_bad:
                        raise
                if len(batch) == extractor.recipe.runtime.batch_size:
                    yield torch.stack(batch)
                    batch = []
                task.advance()
            if batch:
                yield torch.stack(batch)

        extractor.fit(batches, images=len(chosen))


def compute_parts(
    extractor: FungiExtractor,
    store: PartStore,
    dataset: Dataset,
    workspace: Workspace,
    *,
    total: int,
    skip_bad: bool,
) -> None:
    """Compute every part that is not there yet; ``total`` is the number of images of the whole bank."""
    jobs, done = store.jobs, store.done(skip_bad=skip_bad)
    finished = sum(len(part_jobs) for number, part_jobs in store.parts() if number in done)
    with track("memory bank", len(jobs), done=finished) as task:
        for number, part_jobs in store.parts():
            if number not in done:
                part = compute_part(
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
        recipe=extractor.recipe.model_dump(mode="json"),
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
    extractor: FungiExtractor, store: PartStore, workspace: Workspace, manifest: Manifest, shard: Shard | None
) -> int:
    """Engine, rows, images and manifest from the parts, in a fresh folder; the number of rows."""
    rows = store.count_rows()
    if rows == 0 and shard is None:
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
        with track("index", rows) as task:
            for part in store.read_all():
                index.describe(part.records)
                index.add(part.vectors.astype(np.float32), part.labels, part.patches)
                records += part.records
                task.advance(len(part.patches))
        if isinstance(index, ServerIndex):
            index.shard = None if shard is None else (shard.number, shard.of)
            with server_progress(index):
                index.flush(images=records)
        else:
            index.flush(images=records)
    return rows
