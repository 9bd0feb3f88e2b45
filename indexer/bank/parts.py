"""The parts of a memory bank under construction on disk: rows of a few images, each part one file."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as save_arrays

from indexer.bank.jobs import BankJob
from indexer.datasets.keys import SampleKeys
from indexer.seeds import generator_for
from retrieval import ImageRecord
from retrieval.json_text import parse_json
from retrieval.store.files import atomic_write
from retrieval.store.paths import text_path

#: Images of one part: what a stopped build loses at most.
PART_IMAGES = 32

_LOG = logging.getLogger("mycelia")


@dataclass
class Part:
    """Rows of the memory bank, the images they are from, and what of every job of the part was read."""

    vectors: npt.NDArray[np.float16]
    labels: npt.NDArray[np.uint8]
    patches: npt.NDArray[np.int32]
    records: list[ImageRecord]
    skipped: dict[str, str]
    sources: list[SampleKeys]


@dataclass(frozen=True)
class _Metadata:
    """What a stored part says of its images, without its rows."""

    records: list[ImageRecord]
    skipped: dict[str, str]  #: id and reason
    sources: list[SampleKeys] | None  #: of every job; None: an older version wrote none
    features: str | None  #: checksum of the features that made the vectors


class PartStore:
    """The part files of one build."""

    def __init__(self, folder: Path, jobs: Sequence[BankJob], *, features: str) -> None:
        """``folder`` is the workspace; ``jobs`` are split into parts in their order.

        ``features`` is the checksum of what maps images to vectors: a part of other features is none.
        """
        self._folder = folder
        self._features = features
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
        """Numbers of the parts that need not be computed.

        They are there and whole, skipped no image unless ``skip_bad``, and nothing that they were
        computed from has changed: the features, and the content of every image and its labels.
        """
        done = set()
        for number, jobs in self.parts():
            if not self._is_whole(self._path(number)):
                continue
            metadata = self._metadata(number)
            changed = self._changed(metadata, jobs)
            if changed:
                _LOG.info("part %d of the memory bank is computed again: %s", number, changed)
            elif skip_bad or not metadata.skipped:
                done.add(number)
        return done

    def write(self, number: int, part: Part) -> None:
        """Store a part so that it is there whole or not at all. Raises StorageError."""
        arrays: dict[str, npt.NDArray[Any]] = {
            "vectors": part.vectors,
            "labels": part.labels,
            "patches": part.patches,
        }
        metadata = {
            "records": [asdict(record) for record in part.records],
            "skipped": part.skipped,
            "sources": [asdict(keys) for keys in part.sources],
            "features": self._features,
        }
        with atomic_write(self._path(number)) as file:
            file.write(save_arrays(arrays, metadata={"images": json.dumps(metadata)}))

    def read(self, number: int) -> Part:
        """A stored part."""
        metadata = self._metadata(number)
        with text_path(self._path(number)) as name, safe_open(name, framework="numpy") as file:
            arrays = [file.get_tensor(name) for name in ("vectors", "labels", "patches")]
        vectors, labels, patches = arrays
        return Part(vectors, labels, patches, metadata.records, metadata.skipped, metadata.sources or [])

    def read_all(self) -> Iterator[Part]:
        """All parts in order, one in memory at a time."""
        for number, _ in self.parts():
            yield self.read(number)

    @property
    def skipped(self) -> dict[str, str]:
        """Id and reason of every image that was skipped."""
        return {id: why for number, _ in self.parts() for id, why in self._metadata(number).skipped.items()}

    def count_rows(self) -> int:
        """Rows of all parts."""
        return sum(record.patches for number, _ in self.parts() for record in self._metadata(number).records)

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

    def _changed(self, metadata: _Metadata, jobs: Sequence[BankJob]) -> str:
        """What is not as it was when a part was computed, in words; nothing where all is."""
        if metadata.sources is None or len(metadata.sources) != len(jobs):
            return "it does not say what it was computed from"
        if metadata.features != self._features:
            return "the features have changed"
        for job, earlier in zip(jobs, metadata.sources, strict=True):
            now = job.sample.keys(earlier)
            if not now.image.equals(earlier.image):
                return f"image {job.sample.image} has changed"
            if not now.labels.equals(earlier.labels):
                return f"the labels {job.sample.labels.name} have changed"
        return ""

    def _metadata(self, number: int) -> _Metadata:
        with text_path(self._path(number)) as name, safe_open(name, framework="numpy") as file:
            data = parse_json(file.metadata()["images"], own=True)
        sources = data.get("sources")
        return _Metadata(
            records=[ImageRecord.from_json(record) for record in data["records"]],
            skipped=data["skipped"],
            sources=None if sources is None else [SampleKeys.from_json(keys) for keys in sources],
            features=data.get("features"),
        )

    def _path(self, number: int) -> Path:
        return self._folder / f"part-{number:06d}.safetensors"

    @staticmethod
    def _is_whole(path: Path) -> bool:
        try:
            with text_path(path) as name, safe_open(name, framework="numpy"):
                return True
        except (OSError, SafetensorError):
            return False
