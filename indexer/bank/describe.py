"""Describing images for the memory bank: what is read of each, and the rows that it gives."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from indexer.bank.augmentation import augment
from indexer.bank.jobs import BankJob
from indexer.bank.parts import Part
from indexer.bank.reading import read_labelled
from indexer.bank.sampling import choose_patches, patch_labels, patches_per_image, plain_geometry, soft_labels
from indexer.datasets import Dataset
from indexer.datasets.keys import SampleKeys
from indexer.features.fungi import FungiExtractor
from indexer.features.passes import extract_passes
from indexer.images import Box, Geometry, PatchGrid
from indexer.recipe import Recipe
from indexer.seeds import generator_for
from retrieval import ImageRecord
from retrieval.errors import ConfigError, DataError
from retrieval.progress import Task
from retrieval.store.files import storage_errors

#: Longer side of a thumbnail, pixels.
THUMB_SIZE = 320


@dataclass(frozen=True)
class PreparedImage:
    """A job whose image and mask were read."""

    job: BankJob
    tensor: torch.Tensor
    grid: PatchGrid
    """Its patches, those of all shifts."""
    counts: npt.NDArray[np.int64]
    """(T, C) of the patches of the grid, row-major."""
    image: npt.NDArray[np.uint8]

    @property
    def geometry(self) -> Geometry:
        """What the model sees of the image."""
        return self.grid.geometry


def describe_jobs(
    extractor: FungiExtractor,
    dataset: Dataset,
    jobs: Sequence[BankJob],
    thumbs: Path,
    *,
    total: int,
    skip_bad: bool,
    task: Task,
) -> Part:
    """Rows of the given jobs; ``total`` is the number of images of the whole bank, for the limit per image.

    Thumbnails of first-epoch images are written to ``thumbs``. Raises DataError for a bad image or
    mask unless ``skip_bad``.
    """
    recipe, tokens = extractor.recipe, extractor.backbone.tokens
    limit = patches_per_image(recipe.bank, images=total, tokens=tokens)
    found = [empty_part(extractor.similarity.width, len(dataset.classes))]
    skipped: dict[str, str] = {}
    sources: list[SampleKeys] = []
    batch: list[tuple[PreparedImage, SampleKeys]] = []
    for position, job in enumerate(jobs):
        # before they are read: what is replaced meanwhile is noticed when the build goes on
        sources.append(job.sample.keys())
        try:
            batch.append((prepare_job(extractor, dataset, job), sources[-1]))
        except DataError as error:
            if not skip_bad:
                raise
            skipped[job.sample.id] = str(error)
            thumb_of(job, thumbs).unlink(missing_ok=True)  # of an earlier run, when the image was good
        if batch and (len(batch) == recipe.runtime.batch_size or position == len(jobs) - 1):
            tensors = torch.stack([item.tensor for item, _ in batch])
            grids = [item.grid for item, _ in batch]
            vectors = extract_passes(extractor, tensors, grids, flip=False)[:, 0].numpy()
            for (item, keys), rows in zip(batch, vectors, strict=True):
                found.append(_select(extractor, item, keys, rows, limit))
                if not item.job.epoch:
                    write_thumb(item.image, thumb_of(item.job, thumbs))
            batch = []
        task.advance()
    return join_parts(found, skipped, sources)


def empty_part(width: int, classes: int) -> Part:
    """A part without rows."""
    vectors, labels = np.empty((0, width), np.float16), np.empty((0, classes), np.uint8)
    return Part(vectors, labels, np.empty((0, 3), np.int32), [], {}, [])


def join_parts(parts: Sequence[Part], skipped: dict[str, str], sources: list[SampleKeys]) -> Part:
    """The rows of many parts as one."""
    return Part(
        np.concatenate([part.vectors for part in parts]),
        np.concatenate([part.labels for part in parts]),
        np.concatenate([part.patches for part in parts]),
        [record for part in parts for record in part.records],
        skipped,
        sources,
    )


def prepare_job(
    extractor: FungiExtractor, dataset: Dataset, job: BankJob, *, plain: bool = False
) -> PreparedImage:
    """Read a job's image and mask, augment them where its epoch is, and count the labels of its patches.

    ``plain`` shows the whole image as it is and once, whatever the epoch and ``bank.shifts``. Raises
    ImageError or MaskError, and ConfigError for a recipe with ``image.scale``: an image may have tiles.
    """
    recipe = extractor.recipe
    if recipe.image.scale is not None:
        raise ConfigError(
            f"image.scale={recipe.image.scale:g} may cut images into tiles, which this cannot compare; leave "
            "image.scale empty here, and set it when the index is built"
        )
    image, columns = read_labelled(recipe, dataset, job.sample)
    if recipe.bank.augments(job.epoch) and not plain:
        seen, geometry = augment(
            image, recipe, generator_for(recipe.seed, "augment", job.sample.id, job.epoch)
        )
    else:
        seen, geometry = image, plain_geometry(image.shape[:2], recipe.image)
    grid = PatchGrid(geometry, extractor.patch_size, 1 if plain else recipe.bank.shifts)
    counts = patch_labels(
        columns, geometry, grid.patch_size, classes=len(dataset.classes), shifts=grid.shifts
    )
    return PreparedImage(job, extractor.prepare(seen, geometry)[0], grid, counts, image)


def kept_patches(recipe: Recipe, item: PreparedImage, limit: int) -> npt.NDArray[np.int64]:
    """Which patches of an image the memory bank takes, ``limit`` at most: sorted indices (n,)."""
    generator = generator_for(recipe.seed, "patches", item.job.sample.id, item.job.epoch)
    return choose_patches(item.counts, limit, generator)


def _select(
    extractor: FungiExtractor,
    item: PreparedImage,
    keys: SampleKeys,
    vectors: npt.NDArray[np.float32],
    limit: int,
) -> Part:
    """The rows that one image gives, out of the vectors (T, D) of all patches of its grid."""
    kept = kept_patches(extractor.recipe, item, limit)
    rows, cols = np.divmod(kept, item.grid.shape[1])
    patches = np.stack([np.full_like(kept, item.job.number), rows, cols], axis=1).astype(np.int32)
    stored, labels = vectors[kept].astype(np.float16), soft_labels(item.counts[kept])
    geometry = item.geometry
    record = record_of(item.job, keys, geometry.source, patches=len(kept), box=geometry.box)
    return Part(stored, labels, patches, [record], {}, [])


def record_of(
    job: BankJob, keys: SampleKeys, size: tuple[int, ...], *, patches: int, box: Box | None = None
) -> ImageRecord:
    """The record of a job's image of a size (H0, W0), which gave so many rows."""
    return ImageRecord(
        number=job.number,
        id=job.sample.id,
        path=str(job.sample.image),
        sha256=keys.image.sha256,
        height=size[0],
        width=size[1],
        patches=patches,
        epoch=job.epoch,
        box=box,
    )


def write_thumb(image: npt.NDArray[np.uint8], path: Path) -> None:
    """A small JPEG of an image (H, W, 3); raises StorageError."""
    thumb = Image.fromarray(image)
    thumb.thumbnail((THUMB_SIZE, THUMB_SIZE))
    encoded = io.BytesIO()
    thumb.save(encoded, "JPEG", quality=80)
    with storage_errors(path.parent):
        path.write_bytes(encoded.getvalue())


def thumb_of(job: BankJob, folder: Path) -> Path:
    """Where the thumbnail of a job's image lies."""
    return folder / f"{job.number:06d}.jpg"
