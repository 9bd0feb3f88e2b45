"""The face of an index, whatever engine is behind it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Protocol

import numpy as np
import numpy.typing as npt

from retrieval.classes import ClassMap
from retrieval.neighbors import Filter, Neighbors, Rows
from retrieval.progress import Progress
from retrieval.similarity import Similarity
from retrieval.store.manifest import Manifest
from retrieval.store.records import ImageRecord


class PatchIndex(Protocol):
    """Labelled patch vectors and the search over them; the same on every engine.

    Row ids are 0, 1, 2, ... in the order of adding, and are never used again. (On a server, which many
    fill at once, they are made from image number and position instead.)
    """

    @property
    def manifest(self) -> Manifest:
        """The manifest; assign a changed one before :meth:`flush` to store it."""

    @manifest.setter
    def manifest(self, manifest: Manifest) -> None: ...

    @property
    def similarity(self) -> Similarity:
        """What the similarities mean, and the vectors' layout."""

    @property
    def classes(self) -> ClassMap:
        """The classes, one for each label column."""

    def __len__(self) -> int:
        """Live rows: added and not removed."""

    def add(
        self,
        vectors: npt.NDArray[np.float32],
        labels: npt.NDArray[np.uint8],
        patches: npt.NDArray[np.int32],
        *,
        multiplicity: npt.NDArray[np.float32] | None = None,
    ) -> npt.NDArray[np.int64]:
        """Append rows; returns their ids (n,) int64.

        On a server, a patch that is there already is replaced, so that adding twice changes nothing.
        ``vectors`` (n, D) float32 as ``similarity`` says, ``labels`` (n, C) uint8 soft labels times
        255, ``patches`` (n, 3) int32 image number, grid row, grid column, ``multiplicity`` (n,) float32 how
        many patches each row stands for (1 without). With more than 32 classes an embedded index
        keeps the 8 largest shares of a label (``retrieval.store.label_file``). Raises ConfigError for
        arrays that do not fit, and on a server for a multiplicity; IndexBusyError where another process
        changes the index, or has changed it since it was opened; StorageError; no row is added then.
        """

    def announce(self, images: Sequence[ImageRecord]) -> None:
        """Tell of images before their rows are added: a server's point ids are made from their records."""

    def stream(self, *, batch: int = 4096) -> Iterator[Rows]:
        """All live rows by rising id, about ``batch`` at a time."""

    def search(self, queries: npt.NDArray[np.float32], k: int, *, filter: Filter | None = None) -> Neighbors:
        """The ``k`` nearest live rows of queries (Q, D) float32 that ``filter`` lets through."""

    def patches(self, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
        """Image number, grid row and grid column of rows: (...) int64 -> (..., 3) int32; -1 for the id -1."""

    def remove(self, image: int) -> int:
        """Remove every row of an image number; returns how many. Kept for good at the next flush."""

    def relabel(self, classes: ClassMap, columns: npt.NDArray[np.int64]) -> None:
        """Take other classes: the labels' column c becomes ``columns[c]`` (C,) of them; equal ones are added.

        Comes before any other change, and is kept for good at the next flush. No vector is read.
        """

    def flush(
        self,
        *,
        images: Sequence[ImageRecord] | None = None,
        thumbnails: Mapping[int, bytes] | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Store everything for good, in one step; ``images`` replaces the image records in it.

        ``thumbnails`` adds JPEGs by image number. ``progress`` hears of what takes long, a server's graph.
        """

    def refresh(self) -> bool:
        """Take over what others have committed since, so that the next search sees it; whether there was any.

        Costs next to nothing where there was none. Not for use while another thread searches. While a change
        of one's own is not flushed, nothing is taken over. Raises IndexMismatchError where an index of other
        features is in the folder now, and what opening does.
        """

    def close(self) -> None:
        """Release memory and files; what was not flushed is dropped. Whatever is asked afterwards raises."""

    def __enter__(self) -> PatchIndex: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
