"""What every index has, wherever its vectors are: a manifest, checks of what comes in, a context."""

from __future__ import annotations

import operator
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, TypeVar

import numpy as np
import numpy.typing as npt

from retrieval.classes import ClassMap
from retrieval.errors import ConfigError, IndexClosedError
from retrieval.similarity import Similarity
from retrieval.store.commit import IndexFiles
from retrieval.store.files import atomic_write, storage_errors
from retrieval.store.layout import IMAGES, thumbnail_name
from retrieval.store.manifest import Manifest
from retrieval.store.records import ImageRecord, write_records

#: The largest number in a vector: what float16 holds.
LARGEST = 65504.0

_Index = TypeVar("_Index", bound="IndexBase")


class IndexBase(ABC):
    """The part of a ``PatchIndex`` that no engine changes."""

    #: Whether a fork of the process may go on with it.
    forks: ClassVar[bool] = True

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        """``folder`` holds the manifest, and whatever else the engine keeps there."""
        self.folder = folder
        self._manifest = manifest
        self._closed = False
        self._process = os.getpid()

    @property
    def manifest(self) -> Manifest:
        """The manifest as it was last written or read."""
        return self._manifest

    @manifest.setter
    def manifest(self, manifest: Manifest) -> None:
        """What ``flush`` writes next; it fills in the counts, the engine and the checksums."""
        self._manifest = manifest

    @property
    def similarity(self) -> Similarity:
        """What the similarities mean, and the vectors' layout."""
        return self._manifest.similarity

    @property
    def classes(self) -> ClassMap:
        """The classes, one for each label column."""
        return self._manifest.classes

    def close(self) -> None:
        """Release what the index holds, for good; what was not flushed is dropped."""
        if not self._closed:
            self._closed = True
            if self.forks or os.getpid() == self._process:
                self._release()

    @abstractmethod
    def _release(self) -> None:
        """Release what the index holds; called once."""

    def _check_open(self) -> None:
        """Raise IndexClosedError after :meth:`close`, and in a forked process unless the engine ``forks``."""
        if self._closed:
            raise IndexClosedError(f"the index {self.folder} was closed; open it again to use it")
        if not self.forks and os.getpid() != self._process:
            raise IndexClosedError(
                f"the index {self.folder} was opened before this process was forked, and Qdrant's threads "
                "stay behind; open it here again, or start processes with multiprocessing's spawn"
            )

    def __enter__(self: _Index) -> _Index:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check_rows(
        self,
        vectors: npt.NDArray[np.float32],
        labels: npt.NDArray[np.uint8],
        patches: npt.NDArray[np.int32],
        multiplicity: npt.NDArray[np.float32] | None,
    ) -> None:
        """Raise ConfigError for rows that do not fit the index or each other, IndexClosedError."""
        self._check_open()
        self._check_vectors(vectors)
        count = len(vectors)
        if np.shape(labels) != (count, len(self.classes)) or np.shape(patches) != (count, 3):
            raise ConfigError(
                f"{count} vectors need labels of shape {(count, len(self.classes))} and patches of shape "
                f"{(count, 3)}, got {np.shape(labels)} and {np.shape(patches)}"
            )
        _check_range(labels, 0, 255, "labels are shares times 255")
        _check_range(patches, 0, 2**31 - 1, "patches are image number, grid row and grid column")
        if multiplicity is None:
            return
        if multiplicity.shape != (count,):
            raise ConfigError(f"{count} vectors need weights of shape {(count,)}, got {multiplicity.shape}")
        if not ((multiplicity > 0) & np.isfinite(multiplicity)).all():
            raise ConfigError("weights say how many patches a row stands for: give finite numbers above 0")

    def _check_queries(self, queries: npt.NDArray[np.float32], k: int) -> int:
        """``k`` as an int, NumPy's integers included.

        Raises ConfigError for queries that do not fit the index, or for no neighbours; IndexClosedError.
        """
        self._check_open()
        self._check_vectors(queries)
        try:
            count = operator.index(k)
        except TypeError:
            raise ConfigError(f"k must be a whole number, got {k!r:.40}") from None
        if not 1 <= count < 2**31:
            raise ConfigError(f"k must be at least 1 and below {2**31}, got {count}")
        return count

    def _check_vectors(self, vectors: npt.NDArray[np.float32]) -> None:
        width = self.similarity.width
        if np.ndim(vectors) != 2 or np.shape(vectors)[1] != width:
            raise ConfigError(
                f"the index holds vectors of {width} numbers, got an array of shape {np.shape(vectors)}"
            )
        if np.asarray(vectors).dtype.kind not in "fiu":
            raise ConfigError(f"vectors are numbers, float32 at best, got {np.asarray(vectors).dtype}")
        if not np.isfinite(vectors).all():
            raise ConfigError(
                "vectors hold NaN or infinity; check the weights and the precision of the backbone"
            )
        if np.size(vectors) and max(np.max(vectors), -np.min(vectors)) > LARGEST:
            raise ConfigError(
                f"vectors hold numbers beyond {LARGEST:.0f}, the largest of float16, in which they are "
                "stored; scale them to length 1"
            )


def _check_range(array: npt.NDArray[Any], low: int, high: int, what: str) -> None:
    """Raise ConfigError unless all are whole numbers of ``low`` to ``high``: a cast would bend others."""
    given = np.asarray(array)
    if given.dtype.kind not in "iu":
        raise ConfigError(f"{what}: give whole numbers, {low} to {high}, not {given.dtype}")
    if given.size and (given.min() < low or given.max() > high):
        raise ConfigError(
            f"{what}: give whole numbers of {low} to {high}, got {given.min()} to {given.max()}"
        )


def write_attached(
    files: IndexFiles, images: Sequence[ImageRecord] | None, thumbnails: Mapping[int, bytes] | None
) -> dict[str, Path | None]:
    """Write the image records and thumbnails of a change, for its commit. Raises StorageError."""
    changes: dict[str, Path | None] = {}
    if images is not None:
        changes[IMAGES] = write_records(files.next(IMAGES), images)
    for number, content in (thumbnails or {}).items():
        name = thumbnail_name(number)
        changes[name] = files.next(name)
        with storage_errors(files.folder):
            (files.folder / name).parent.mkdir(exist_ok=True)
        with atomic_write(files.next(name)) as file:
            file.write(content)
    return changes
