"""What a search takes besides the queries, and what it gives back."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from numbers import Integral

import numpy as np
import numpy.typing as npt

from retrieval.errors import ConfigError

#: Row id that stands for "no neighbour".
NO_NEIGHBOR = -1


@dataclass(frozen=True)
class Filter:
    """Which rows of an index a search may return; every engine honours it exactly.

    ``images`` allows these image numbers only (every image when None), ``not_images`` leaves
    these out, and ``not_classes`` leaves out the rows whose dominant class (the column with the
    largest soft label, the first of equals) is one of these columns. ``datasets`` allows the rows
    of these data sets (by name) only.
    """

    images: Collection[int] | None = None
    not_images: Collection[int] = ()
    not_classes: Collection[int] = ()
    datasets: Collection[str] | None = None

    def __post_init__(self) -> None:
        """Raise ConfigError for what is no collection of numbers, or of names."""
        for name, kind, what in (
            ("images", Integral, "image numbers"),
            ("not_images", Integral, "image numbers"),
            ("not_classes", Integral, "class columns"),
            ("datasets", str, "names"),
        ):
            given = getattr(self, name)
            if isinstance(given, np.ndarray) and given.ndim == 1:
                given = given.tolist()
                object.__setattr__(self, name, given)
            if given is None and name in ("images", "datasets"):
                continue
            if not isinstance(given, Collection) or isinstance(given, str | bytes):
                raise ConfigError(f"a filter's {name} are a collection of {what}, not {given!r:.60}")
            if odd := [each for each in given if not isinstance(each, kind)]:
                raise ConfigError(f"a filter's {name} are {what}, got {odd[0]!r:.60} among them")


@dataclass(frozen=True)
class Rows:
    """Rows of an index on their way to another: what ``PatchIndex.add`` takes, and their ids.

    ``ids`` (n,) int64, ``vectors`` (n, D) float32, ``labels`` (n, C) uint8, ``patches`` (n, 3) int32,
    ``multiplicity`` (n,) float32, how many patches each row stands for, or None where every row
    stands for one.
    """

    ids: npt.NDArray[np.int64]
    vectors: npt.NDArray[np.float32]
    labels: npt.NDArray[np.uint8]
    patches: npt.NDArray[np.int32]
    multiplicity: npt.NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Neighbors:
    """The nearest rows of every query, nearest first.

    ``ids`` (Q, K) int64, -1 where there are fewer than K rows; ``similarities`` (Q, K) float32,
    larger is nearer, -inf where there is none; ``labels`` (Q, K, C) uint8, soft labels times 255,
    0 where there is none; ``multiplicity`` (Q, K) float32, how many patches each row stands for, 0
    where there is none, or None in an index whose rows all stand for one.
    """

    ids: npt.NDArray[np.int64]
    similarities: npt.NDArray[np.float32]
    labels: npt.NDArray[np.uint8]
    multiplicity: npt.NDArray[np.float32] | None = None

    def __len__(self) -> int:
        """Number of queries."""
        return len(self.ids)

    @property
    def k(self) -> int:
        """Neighbours per query, missing ones included."""
        return int(self.ids.shape[1])

    def first(self, k: int) -> Neighbors:
        """The nearest ``k`` of each query's neighbours, or all where there are fewer."""
        multiplicity = None if self.multiplicity is None else self.multiplicity[:, :k]
        return Neighbors(self.ids[:, :k], self.similarities[:, :k], self.labels[:, :k], multiplicity)
