"""What the benchmarks measure on: the rows of an exact index, and the patches of other images as queries."""

from __future__ import annotations

import hashlib
import mmap
import multiprocessing
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.command import track
from indexer.bank.sampling import plain_geometry
from indexer.datasets import Dataset
from indexer.features.projection import apply_pca, fit_pca
from indexer.recipe import ImageSettings
from retrieval import IndexSettings, PatchIndex, create_index, open_index, read_manifest
from retrieval.engines.exact_search import VECTORS, merge_nearest
from retrieval.engines.faiss_types import load_faiss, training_rows
from retrieval.errors import ConfigError
from retrieval.neighbors import Neighbors
from retrieval.similarity import Cosine
from retrieval.store.label_file import LABELS
from retrieval.store.manifest import DENSE, Manifest
from retrieval.store.rows import MULTIPLICITY, PATCHES
from segmentation import Segmenter
from segmentation.description import Description
from segmentation.tuning.scoring import confusion_of

K = 30
_BLOCK = 65_536
#: Rows whose pages are in memory while a sample is taken.
_STRETCH = 262_144
_PCA_SAMPLE = 32_768
_Result = TypeVar("_Result")

Queries = list[npt.NDArray[np.float32]]
Vectors = npt.NDArray[np.float32]
Transform = Callable[[Vectors], Vectors]


@dataclass(frozen=True)
class Bank:
    """Rows of a memory bank: vectors (N, D) float16, labels (N, C) uint8, patches (N, 3) int32."""

    vectors: npt.NDArray[Any]
    labels: npt.NDArray[np.uint8]
    patches: npt.NDArray[np.int32]
    manifest: Manifest

    def __len__(self) -> int:
        return len(self.vectors)

    @property
    def width(self) -> int:
        """Numbers of a vector."""
        return int(self.vectors.shape[1])

    @classmethod
    def open(cls, folder: Path) -> Bank:
        """The rows of an exact index, memory-mapped; raises ConfigError for another engine."""
        manifest = read_manifest(folder)
        whole = manifest.engine["kind"] == "exact" and not manifest.counts.get("removed")
        if not whole or manifest.labels != DENSE or MULTIPLICITY in manifest.files:
            raise ConfigError(
                f"{folder} is no plain exact index; build it with --engine exact, of at most 32 classes"
            )
        vectors, labels, patches = (
            np.load(folder / name, mmap_mode="r") for name in (VECTORS, LABELS, PATCHES)
        )
        return cls(vectors, labels, patches, manifest)

    def take(self, rows: int) -> Bank:
        """At most ``rows`` rows, evenly spaced; still mapped from the file."""
        step = max(1, len(self) // rows)
        part = slice(0, min(rows, len(self)) * step, step)
        return replace(self, vectors=self.vectors[part], labels=self.labels[part], patches=self.patches[part])

    def floats(self) -> Vectors:
        """All vectors as float32, in memory."""
        return np.asarray(self.vectors, dtype=np.float32)

    def blocks(self, rows: int) -> Iterator[tuple[Vectors, npt.NDArray[np.uint8], npt.NDArray[np.int32]]]:
        """``rows`` rows, a block at a time: vectors float32, labels, patches.

        More than the bank has are made up: further rounds through it give the unit vectors between
        each patch and the one after it, which mostly lies beside it, with the labels of the first.
        """
        rounds = -(-rows // len(self))
        for turn in range(rounds):
            share = np.float32(turn / rounds)
            for start in range(0, min(len(self), rows - turn * len(self)), _BLOCK):
                part = slice(start, min(start + _BLOCK, rows - turn * len(self)))
                vectors = np.asarray(self.vectors[part], dtype=np.float32)
                if turn:
                    vectors = (1 - share) * vectors + share * np.roll(vectors, -1, axis=0)
                    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
                yield vectors, np.asarray(self.labels[part]), np.asarray(self.patches[part])
                self.forget_pages()

    def spread(self, rows: int) -> Iterator[Vectors]:
        """About ``rows`` vectors, float32, evenly spaced, a stretch of the bank at a time."""
        step = max(1, len(self) // rows)
        stretch = step * max(1, _STRETCH // step)
        for start in range(0, len(self), stretch):
            yield np.asarray(self.vectors[start : start + stretch : step], dtype=np.float32)
            self.forget_pages()

    def forget_pages(self) -> None:
        """Give the pages of the mapped vectors back: what was read would count as memory of the reader."""
        mapped = getattr(self.vectors, "_mmap", None)
        if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
            mapped.madvise(mmap.MADV_DONTNEED)


def build(
    bank: Bank,
    folder: Path,
    settings: IndexSettings,
    transform: Transform | None = None,
    *,
    rows: int | None = None,
) -> None:
    """A real index of the bank's rows, or of their transforms, in ``folder``; block by block.

    ``rows`` may be more than the bank has (:meth:`Bank.blocks`).
    """
    transform, rows = transform or unchanged, rows or len(bank)
    width = transform(np.asarray(bank.vectors[:1], dtype=np.float32)).shape[1]
    manifest = replace(bank.manifest, similarity=Cosine(width), counts={"images": 0}, engine={}, files={})
    trained = settings.spec.training_rows is not None
    with create_index(
        folder,
        manifest,
        rows=rows,
        sample=np.concatenate([transform(part) for part in bank.spread(training_rows(rows))])
        if trained
        else None,
        settings=settings,
    ) as index:
        for vectors, labels, patches in bank.blocks(rows):
            index.add(transform(vectors), labels, patches)
        index.flush(images=[])


def half_whitened(bank: Bank, width: int) -> Transform:
    """Half-whitened principal components fitted on the bank: (n, D) -> unit vectors (n, width)."""
    sample = torch.from_numpy(np.concatenate(list(bank.spread(_PCA_SAMPLE))))
    mean, components = fit_pca(sample, width, whiten="half")

    def transform(vectors: Vectors) -> Vectors:
        return apply_pca(torch.from_numpy(vectors), mean, components).numpy()

    return transform


def unchanged(vectors: Vectors) -> Vectors:
    """The transform that does nothing."""
    return vectors


def spaced(dataset: Dataset, images: int) -> Dataset:
    """At most ``images`` of the data set's samples, evenly spaced."""
    chosen = np.unique(np.linspace(0, len(dataset) - 1, images).round().astype(int))
    return replace(dataset, samples=tuple(dataset.samples[i] for i in chosen))


def describe(index: Path, dataset: Dataset) -> list[Description]:
    """Each image of the data set as the model of an index sees it."""
    described = []
    with Segmenter.open(index) as segmenter, track("queries", len(dataset)) as task:
        for sample in dataset.samples:
            described.append(segmenter.describe(sample.image))
            task.advance()
    return described


def queries_of(index: Path, dataset: Dataset, *, cache: Path | None = None) -> Queries:
    """The vectors of each image's patches, (T, D) float32 each; kept in the folder ``cache``."""
    known = None
    if cache is not None:
        made_from = [read_manifest(index).fingerprints, [sample.id for sample in dataset.samples]]
        known = cache / f"queries-{hashlib.sha256(repr(made_from).encode()).hexdigest()[:16]}.npy"
        if known.is_file():
            return list(np.load(known))
    queries = [description.views[0].vectors for description in describe(index, dataset)]
    if known is not None:
        known.parent.mkdir(parents=True, exist_ok=True)
        np.save(known, np.stack(queries))
    return queries


def nearest(
    bank: Bank, queries: Vectors, transform: Transform | None = None, *, rows: int | None = None
) -> npt.NDArray[np.int64]:
    """Exact neighbours by inner product in float32, of transforms where there is one: ids (Q, K)."""
    transform = transform or unchanged
    asked = torch.from_numpy(transform(queries))
    best, where, start = torch.empty(len(queries), 0), torch.empty(len(queries), 0, dtype=torch.int64), 0
    for vectors, _, _ in bank.blocks(rows or len(bank)):
        similarities = asked @ torch.from_numpy(transform(vectors)).T
        best, where = merge_nearest(best, where, similarities, start=start, k=K)
        start += len(vectors)
    return where.numpy()


def recall(found: npt.NDArray[np.int64], wanted: npt.NDArray[np.int64]) -> float:
    """Share of the true neighbours (Q, K) that were found."""
    hits = sum(len(np.intersect1d(a, b)) for a, b in zip(found, wanted, strict=True))
    return hits / wanted.size


def score(
    found: Neighbors, truth: npt.NDArray[np.int32], image: ImageSettings, *, temperature: float
) -> npt.NDArray[np.int64]:
    """Confusion matrix (C, C) of one image: neighbours of its patches, its class columns (H, W)."""
    side = round((image.fixed_size[0] * image.fixed_size[1] / len(found)) ** 0.5)
    geometry = plain_geometry((truth.shape[0], truth.shape[1]), image)
    return confusion_of(found, truth, geometry, (side, side), temperature=temperature)


def folder_bytes(folder: Path) -> int:
    """What an index's files take on disk, holes left out."""
    return sum(allocated_bytes(path) for path in folder.rglob("*") if path.is_file())


def allocated_bytes(path: Path) -> int:
    """What a file takes on disk: Qdrant's files have holes."""
    status = path.stat()
    return min(status.st_size, 512 * getattr(status, "st_blocks", status.st_size))


def peak_mib() -> float:
    """Peak resident memory of this process so far, mapped files included (Linux only)."""
    # not getrusage: a child begins with its parent's peak there
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))


def in_fresh_process(function: Callable[..., _Result], *arguments: Any) -> _Result:
    """The function's result, from a process of its own: for peak memory and cold starts."""
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        return pool.apply(function, arguments)


def use_threads(threads: int) -> None:
    """Have torch and FAISS use as many threads."""
    torch.set_num_threads(threads)
    load_faiss().omp_set_num_threads(threads)


def open_and_search(folder: Path, queries: Vectors, k: int = K) -> npt.NDArray[np.int64]:
    """The ids (Q, k) that a stored index finds."""
    with open_index(folder) as index:
        return _search(index, queries, k)


def _search(index: PatchIndex, queries: Vectors, k: int) -> npt.NDArray[np.int64]:
    return index.search(queries, k).ids
