"""What an engine says of itself: name, settings, how an index is made and opened with it, what it can do.

An engine is told apart by these abilities alone; nobody asks which one it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel

from retrieval.engines.vector_engine import VectorEngine
from retrieval.errors import ConfigError
from retrieval.similarity import Similarity
from retrieval.store.commit import IndexFiles
from retrieval.store.lock import Lock
from retrieval.store.manifest import Manifest

if TYPE_CHECKING:
    from retrieval.index import PatchIndex


@dataclass(frozen=True)
class Creation:
    """What is known when an empty index is made."""

    files: IndexFiles
    manifest: Manifest
    rows: int
    """Rows expected."""
    sample: npt.NDArray[np.float32] | None
    """Vectors (n, d) of what is searched, that train quantisers; None where none were given."""
    settings: Any
    """The engine's own section of the settings."""
    device: str
    """A torch device, for searching."""
    share: tuple[int, int] | None
    """(number, of) where this is one of several that fill the index."""


@dataclass(frozen=True)
class Opening:
    """What is known when an index is opened."""

    files: IndexFiles
    manifest: Manifest
    similarity: Similarity
    """The manifest's, perhaps with another number of candidates to put in order."""
    device: str
    """A torch device, for searching."""
    lock: Lock | None
    """The lock of the change that opens it, already held; None for a reader."""


class TrialEngine(VectorEngine, Protocol):
    """Vectors in memory alone, whose search settings can be tried one after the other."""

    def searching(self, *, nprobe: int | None, k_factor: int | None) -> VectorEngine:
        """The same vectors, searched with another ``nprobe`` and ``k_factor`` (None: one list; by k)."""


class SharedFiles(Protocol):
    """Files that all who fill one index have in common."""

    def get(self, name: str) -> bytes | None:
        """A file's content, None where it is not there."""

    def put(self, name: str, content: bytes) -> None:
        """Keep a file, unless somebody was faster: then theirs stays."""


def _nothing(*arguments: Any) -> None:
    """For engines that have nothing to do."""


def _no_facts(index: PatchIndex) -> Mapping[str, str]:
    return {}


def _always(settings: Any) -> bool:
    return True


@dataclass(frozen=True)
class EngineSpec:
    """One engine. See ``CONTRIBUTING.md`` for how to add one."""

    name: str
    """What ``index.engine`` calls it; also the name of its section of the settings."""
    kind: str
    """What manifests call it."""
    title: str
    """Its name in sentences."""
    settings: type[BaseModel]
    """Its section of the settings."""
    create: Callable[[Creation], PatchIndex]
    open: Callable[[Opening], PatchIndex]

    chosen: Callable[[Any], bool] = _always
    """Whether settings with its name mean this one, where engines share a name."""
    require: Callable[[], None] = _nothing
    """Raises MissingExtraError where what it needs is not installed."""
    packages: tuple[str, ...] = ()
    """Distributions whose versions decide what it finds; those that are installed are recorded."""

    training_rows: Callable[[int], int] | None = None
    """How many of a bank's rows train it; None: it needs no training."""
    inner_products_only: bool = True
    """Whether it computes nothing but the inner product of unit vectors."""
    reranks: bool = True
    """Whether an index of it can put neighbours in order by a second similarity."""
    keeps_multiplicity: bool = True
    """Whether its rows may stand for several patches."""
    one_process: bool = False
    """Whether an index of it is open in one process at a time."""
    searches_exactly: bool = False
    """Whether every search looks at every row, so that nothing is lost to speed."""

    make_trial: Callable[[Any, int, npt.NDArray[np.float32]], TrialEngine] | None = None
    """An engine to try settings on, of a section, a number of rows and vectors (n, D) that train it."""

    fetch: Callable[[str | Path], Path | None] = field(default=_nothing)
    """The local folder of an index named by an address of this engine; None for anything else."""
    refresh: Callable[[Path], None] = _nothing
    """Brings the folder of an index up to date with what others changed elsewhere, before a change."""
    reach: Callable[[Any, Manifest], None] = _nothing
    """Raises at once what would otherwise be raised after hours of work: a server that is away."""
    shared_files: Callable[[Any, Manifest], AbstractContextManager[SharedFiles]] | None = None
    """Files in common, of an engine that several processes may fill at a time."""
    facts: Callable[[PatchIndex], Mapping[str, str]] = _no_facts
    """What only an open index can tell, name by name, for people."""
    shown: tuple[str, ...] = ()
    """Which of its parameters a person wants to see first; all where it names none."""

    @property
    def many_writers(self) -> bool:
        """Whether several processes may fill one index at a time."""
        return self.shared_files is not None

    def rows_to_train(self, rows: int) -> int:
        """How many of a bank's ``rows`` train it; 0 where nothing has to be trained."""
        return 0 if self.training_rows is None or rows == 0 else self.training_rows(rows)

    def check(self, similarity: Similarity) -> None:
        """Raise ConfigError for a similarity that this engine cannot serve."""
        self.check_abilities(
            inner_product=similarity.searched.inner_product, reranked=similarity.reranked is not None
        )

    def check_abilities(self, *, inner_product: bool, reranked: bool) -> None:
        """Raise ConfigError where what is searched is no inner product, or re-ranked, and this cannot be."""
        if reranked and not self.reranks:
            raise ConfigError(
                f"{self.title} cannot re-rank by the exact gradient similarity (rerank.candidates); "
                "set index.engine to faiss or exact, or leave rerank.candidates empty"
            )
        if self.inner_products_only and not inner_product:
            raise ConfigError(
                f"{self.title} cannot search the exact gradient similarity (features.projection=none); "
                "set index.engine=exact, or features.projection to factored or dense"
            )

    def check_multiplicity(self) -> None:
        """Raise ConfigError where rows that stand for several patches cannot be kept."""
        if not self.keeps_multiplicity:
            raise no_multiplicity(self.title)


def no_multiplicity(title: str) -> ConfigError:
    """What a user is told who brings rows that stand for several patches to an engine of that title."""
    return ConfigError(
        f"{title} keeps no row weights, so it cannot hold a compacted index; "
        "choose the engine exact, faiss or embedded qdrant (without a URL) for this one"
    )
