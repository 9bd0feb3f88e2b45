"""The parts of a memory bank under construction: rows of a few images, each part one file."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as save_arrays

from indexer.bank.sampling import (
    augment,
    choose_patches,
    generator_for,
    patch_labels,
    patches_per_image,
    plain_geometry,
    soft_labels,
)
from indexer.datasets import Dataset, Sample
from indexer.features.fungi import FungiExtractor
from indexer.images import Geometry
from indexer.progress import Task
from indexer.recipe import Recipe
from retrieval import ImageRecord
from retrieval.errors import DataError
from retrieval.store.files import atomic_write, sha256_file, storage_errors

#: Images of one part: what a stopped build loses at most.
PART_IMAGES = 32
#: Longer side of a thumbnail, pixels.
THUMB_SIZE = 320


@dataclass(frozen=True)
class BankJob:
    """One image in one augmentation epoch; ``number`` is its image number in the index."""

    number: int
    epoch: int
    sample: Sample


@dataclass
class Part:
    """Rows of the memory bank and the images they are from."""

    vectors: npt.NDArray[np.float16]
    labels: npt.NDArray[np.uint8]
    patches: npt.NDArray[np.int32]
    records: list[ImageRecord]
    skipped: dict[str, str]


@dataclass(frozen=True)
class PreparedImage:
    """A job whose image and mask were read."""

    job: BankJob
    tensor: torch.Tensor
    geometry: Geometry
    counts: npt.NDArray[np.int64]
    image: npt.NDArray[np.uint8]


def jobs_of(samples: Sequence[Sample], epochs: int) -> list[BankJob]:
    """Every image in every epoch, epoch by epoch."""
    return [
        BankJob(epoch * len(samples) + i, epoch, sample)
        for epoch in range(epochs)
        for i, sample in enumerate(samples)
    ]


class PartStore:
    """The part files of one build."""

    def __init__(self, folder: Path, jobs: Sequence[BankJob]) -> None:
        """``folder`` is the workspace; ``jobs`` are split into parts in their order."""
        self._folder = folder
        self.jobs = jobs

    @property
    def images(self) -> int:
        """Images of one epoch."""
        return sum(job.epoch == 0 for job in self.jobs)

    def parts(self) -> Iterator[tuple[int, Sequence[BankJob]]]:
        """(number, jobs) of each part."""
        for number, start in enumerate(range(0, len(self.jobs), PART_IMAGES)):
            yield number, self.jobs[start : start + PART_IMAGES]

    def done(self, *, skip_bad: bool) -> set[int]:
        """Numbers of the parts that are there and whole, and that went past no image unless ``skip_bad``."""
        whole = {number for number, _ in self.parts() if self._is_whole(self._path(number))}
        return whole if skip_bad else {number for number in whole if not self._story(number)[1]}

    def write(self, number: int, part: Part) -> None:
        """Store a part so that it is there whole or not at all. Raises StorageError."""
        arrays: dict[str, npt.NDArray[Any]] = {
            "vectors": part.vectors,
            "labels": part.labels,
            "patches": part.patches,
        }
        story = {"records": [asdict(record) for record in part.records], "skipped": part.skipped}
        with atomic_write(self._path(number)) as file:
            file.write(save_arrays(arrays, metadata={"images": json.dumps(story)}))

    def read(self, number: int) -> Part:
        """A stored part."""
        records, skipped = self._story(number)
        with safe_open(self._path(number), framework="numpy") as file:
            arrays = [file.get_tensor(name) for name in ("vectors", "labels", "patches")]
        return Part(arrays[0], arrays[1], arrays[2], records, skipped)

    def read_all(self) -> Iterator[Part]:
        """All parts in order, one in memory at a time."""
        for number, _ in self.parts():
            yield self.read(number)

    @property
    def skipped(self) -> dict[str, str]:
        """Id and reason of every image that was gone past."""
        return {id: reason for number, _ in self.parts() for id, reason in self._story(number)[1].items()}

    def count_rows(self) -> int:
        """Rows of all parts."""
        return sum(record.patches for number, _ in self.parts() for record in self._story(number)[0])

    def training_sample(self, rows: int, limit: int, seed: int, *, width: int) -> npt.NDArray[np.float32]:
        """The first ``width`` numbers of at most ``limit`` of the ``rows`` vectors: (n, width) float32.

        They are chosen from the seed, and come in row order.
        """
        chosen = np.sort(generator_for(seed, "training").permutation(rows)[:limit])
        picked, first = [], 0
        for part in self.read_all():
            here = chosen[(chosen >= first) & (chosen < first + len(part.patches))] - first
            picked.append(part.vectors[here, :width].astype(np.float32))
            first += len(part.patches)
        return np.concatenate(picked)

    def _story(self, number: int) -> tuple[list[ImageRecord], dict[str, str]]:
        """What a stored part says of its images, without its rows: records, and skipped ids with reasons."""
        with safe_open(self._path(number), framework="numpy") as file:
            story = json.loads(file.metadata()["images"])
        return [ImageRecord.from_json(record) for record in story["records"]], story["skipped"]

    def _path(self, number: int) -> Path:
        return self._folder / f"part-{number:06d}.safetensors"

    @staticmethod
    def _is_whole(path: Path) -> bool:
        try:
            with safe_open(path, framework="numpy"):
                return True
        except (OSError, SafetensorError):
            return False


def compute_part(
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
    found = [_empty_part(extractor.similarity.width, len(dataset.classes))]
    skipped: dict[str, str] = {}
    batch: list[PreparedImage] = []
    for position, job in enumerate(jobs):
        try:
            batch.append(prepare_job(extractor, dataset, job))
        except DataError as error:
            if not skip_bad:
                raise
            skipped[job.sample.id] = str(error)
        if batch and (len(batch) == recipe.runtime.batch_size or position == len(jobs) - 1):
            vectors = extractor.extract(torch.stack([item.tensor for item in batch])).numpy()
            for item, rows in zip(batch, vectors, strict=True):
                found.append(_select(extractor, item, rows, limit))
                _write_thumb(item, thumbs)
            batch = []
        task.advance()
    return _join(found, skipped)


def _empty_part(width: int, classes: int) -> Part:
    vectors, labels = np.empty((0, width), np.float16), np.empty((0, classes), np.uint8)
    return Part(vectors, labels, np.empty((0, 3), np.int32), [], {})


def _join(parts: Sequence[Part], skipped: dict[str, str]) -> Part:
    return Part(
        np.concatenate([part.vectors for part in parts]),
        np.concatenate([part.labels for part in parts]),
        np.concatenate([part.patches for part in parts]),
        [record for part in parts for record in part.records],
        skipped,
    )


def prepare_job(extractor: FungiExtractor, dataset: Dataset, job: BankJob) -> PreparedImage:
    """Read a job's image and mask, augment them in later epochs, and count the labels of its patches.

    Raises ImageError or MaskError.
    """
    recipe = extractor.recipe
    image, columns = dataset.read(job.sample)
    if job.epoch:
        seen, geometry = augment(
            image, recipe, generator_for(recipe.seed, "augment", job.sample.id, job.epoch)
        )
    else:
        seen, geometry = image, plain_geometry(image.shape[:2], recipe.image)
    if recipe.bank.protocol == "hummingbird":
        columns = np.maximum(columns, 0)
    counts = patch_labels(columns, geometry, extractor.patch_size, classes=len(dataset.classes))
    return PreparedImage(job, extractor.prepare(seen, geometry)[0], geometry, counts, image)


def kept_patches(recipe: Recipe, item: PreparedImage, limit: int) -> npt.NDArray[np.int64]:
    """Which patches of an image the memory bank takes, ``limit`` at most: sorted indices (n,)."""
    generator = generator_for(recipe.seed, "patches", item.job.sample.id, item.job.epoch)
    return choose_patches(item.counts, limit, generator)


def _select(
    extractor: FungiExtractor, item: PreparedImage, vectors: npt.NDArray[np.float32], limit: int
) -> Part:
    """The rows that one image gives, out of the vectors (T, D) of all its patches."""
    kept = kept_patches(extractor.recipe, item, limit)
    rows, cols = np.divmod(kept, extractor.grid[1])
    patches = np.stack([np.full_like(kept, item.job.number), rows, cols], axis=1).astype(np.int32)
    stored, labels = vectors[kept].astype(np.float16), soft_labels(item.counts[kept])
    return Part(stored, labels, patches, [_record(item, len(kept))], {})


def _record(item: PreparedImage, patches: int) -> ImageRecord:
    path = item.job.sample.image
    height, width = item.geometry.source
    return ImageRecord(
        number=item.job.number,
        id=item.job.sample.id,
        path=str(path),
        sha256=sha256_file(path),
        height=height,
        width=width,
        patches=patches,
        epoch=item.job.epoch,
        box=item.geometry.box,
    )


def _write_thumb(item: PreparedImage, folder: Path) -> None:
    if item.job.epoch:
        return
    thumb = Image.fromarray(item.image)
    thumb.thumbnail((THUMB_SIZE, THUMB_SIZE))
    encoded = io.BytesIO()
    thumb.save(encoded, "JPEG", quality=80)
    with storage_errors(folder):
        (folder / f"{item.job.number:06d}.jpg").write_bytes(encoded.getvalue())
