"""An index on disk as everyone opens it, and how one is made."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from retrieval.engines.registry import engine_of, local_folder
from retrieval.engines.spec import Creation, EngineSpec, Opening
from retrieval.errors import ConfigError, IndexDamagedError, IndexExistsError
from retrieval.index import PatchIndex
from retrieval.settings import IndexSettings
from retrieval.similarity import Similarity
from retrieval.store.commit import IndexFiles
from retrieval.store.layout import FEATURES, IMAGES, thumbnail_name
from retrieval.store.lock import Lock
from retrieval.store.manifest import (
    Manifest,
    has_manifest,
    manifest_stamp,
    read_manifest,
    unlisted_files,
    verify_folder,
)
from retrieval.store.records import ImageRecord, read_records

T = TypeVar("T")

#: How often a reader starts again because a change was committed while it read.
_ATTEMPTS = 100


class IndexFolder:
    """One state of an index: what its manifest says, its image records, features and thumbnails.

    Reading writes nothing but, for an address, a copy in the cache folder. Where another process
    commits a change, and sweeps the files of the state at hand, before they were read, the newer
    state is taken: ``manifest`` is always that of what was read last.
    """

    def __init__(self, path: Path, manifest: Manifest) -> None:
        """Use :meth:`open`."""
        self.path = path
        self._manifest = manifest
        self._stamp: tuple[int, int, int] | None = None
        self._records: list[ImageRecord] | None = None

    @classmethod
    def open(cls, path: str | Path | IndexFolder) -> IndexFolder:
        """The index in the folder ``path``, or at an address such as ``qdrant://HOST:PORT/COLLECTION``.

        One that is open already is given back.

        Raises IndexFileError where there is none, IndexDamagedError where its manifest is missing or
        damaged, IndexMismatchError for a newer format, ServerError.
        """
        if isinstance(path, IndexFolder):
            return path
        folder = local_folder(path)
        return cls(folder, read_manifest(folder))

    def refresh(self) -> bool:
        """Take the newest state; whether it is another one than before. Next to nothing where it is not."""
        stamp = manifest_stamp(self.path)
        if stamp == self._stamp:
            return False
        newest = read_manifest(self.path)
        changed = newest != self._manifest
        self._stamp, self._manifest = stamp, newest
        if changed:
            self._records = None
        return changed

    @property
    def manifest(self) -> Manifest:
        """What the index says of itself."""
        return self._manifest

    @property
    def spec(self) -> EngineSpec:
        """The engine that holds the vectors, and what it can do; raises IndexMismatchError, unknown here."""
        return engine_of(self._manifest, self.path)

    @property
    def recipe(self) -> dict[str, Any]:
        """The resolved recipe that built it, as plain data."""
        return self._manifest.recipe

    @property
    def live_rows(self) -> int:
        """Rows added and not removed, as the manifest counts them."""
        return self._manifest.live_rows

    @property
    def features(self) -> Path:
        """The file of all that maps an image to a vector."""
        return self._manifest.place(self.path, FEATURES)

    @property
    def records(self) -> list[ImageRecord]:
        """The records of all memory images and epochs, removed ones included."""
        if self._records is None:
            self._records = self._consistently(self._read_records)
        return self._records

    def thumbnail(self, number: int) -> Path | None:
        """The small JPEG of an image number of the first epoch; None where there is none."""
        name = thumbnail_name(number)
        if name not in self._manifest.files:
            return None
        path = self._manifest.place(self.path, name)
        return path if path.is_file() else None

    def index(
        self,
        *,
        verify: bool = False,
        device: str = "cpu",
        candidates: int | None = None,
        lock: Lock | None = None,
    ) -> PatchIndex:
        """Open the vectors; ``records`` and ``manifest`` are of the same state afterwards.

        As :func:`open_index`; ``lock`` is that of a change, already held.
        """
        check_candidates(candidates, self._manifest.similarity)

        def read() -> PatchIndex:
            self._check(all_checksums=verify)
            self._records = self._read_records()
            return self._open_engine(device, candidates, lock)

        return self._consistently(read)

    def verify(self) -> list[str]:
        """Compare every file with its checksum; returns files in the folder that are no part of the index.

        Raises IndexDamagedError, naming the first file that is missing or differs.
        """

        def read() -> list[str]:
            self._check(all_checksums=True)
            return unlisted_files(self.path, self._manifest)

        return self._consistently(read)

    def _check(self, *, all_checksums: bool) -> None:
        verify_folder(self.path, self._manifest, all_checksums=all_checksums)

    def _read_records(self) -> list[ImageRecord]:
        if IMAGES not in self._manifest.files:
            return []
        return read_records(self._manifest.place(self.path, IMAGES))

    def _open_engine(self, device: str, candidates: int | None, lock: Lock | None) -> PatchIndex:
        manifest, spec = self._manifest, self.spec
        similarity = _with_candidates(manifest.similarity, candidates)
        try:
            spec.check(similarity)
            return spec.open(Opening(IndexFiles(self.path, manifest), manifest, similarity, device, lock))
        except (KeyError, TypeError, ValueError, ConfigError) as error:
            raise IndexDamagedError(
                f"the manifest in {self.path} describes its engine incompletely ({error}); "
                "build the index again"
            ) from error

    def _consistently(self, read: Callable[[], T]) -> T:
        """What ``read`` gives of the present state, or of the next where that one was swept meanwhile."""
        for _ in range(_ATTEMPTS):
            try:
                return read()
            except (IndexDamagedError, FileNotFoundError):
                newest = read_manifest(self.path)
                if newest == self._manifest:
                    raise
                self._manifest, self._records = newest, None
        return read()


def create_index(
    folder: str | Path,
    manifest: Manifest,
    *,
    rows: int,
    sample: npt.NDArray[np.float32] | None = None,
    settings: IndexSettings | None = None,
    device: str = "cpu",
    share: tuple[int, int] | None = None,
) -> PatchIndex:
    """A new, empty index in ``folder``, which may exist but may not hold an index.

    ``rows`` is how many rows are expected, by which an engine may choose its type; ``sample`` (n,
    ``similarity.searched.width``) float32 trains it, and may be left out for types that need none.
    ``settings`` default to those of a recipe. ``device`` is a torch device, for searching; ``share``
    is (number, of) where several processes fill the index, each its share. There is no index before
    the first ``flush``. Raises IndexExistsError, ConfigError, MissingExtraError and StorageError.
    """
    folder = Path(folder)
    inner_product = manifest.similarity.searched.inner_product
    settings = (settings or IndexSettings()).for_rows(rows, inner_product=inner_product)
    if has_manifest(folder):
        raise IndexExistsError(f"{folder} holds an index already; choose another folder or delete this one")
    spec = settings.spec
    spec.check(manifest.similarity)
    return spec.create(Creation(IndexFiles(folder), manifest, rows, sample, settings.section, device, share))


def open_index(
    path: str | Path, *, verify: bool = False, device: str = "cpu", candidates: int | None = None
) -> PatchIndex:
    """Open the index in a folder, or at ``qdrant://HOST:PORT/COLLECTION``, after checking its manifest.

    Sizes of all files and checksums of those up to 64 MB are compared, with ``verify`` all
    checksums. ``device`` is a torch device, for searching; ``candidates`` says how many rows to
    re-rank, instead of the manifest. Raises IndexFileError where there is no folder,
    IndexDamagedError, IndexMismatchError for a newer format or an unknown engine, ConfigError
    for ``candidates`` of an index without re-ranking, MissingExtraError, and ServerError where a
    Qdrant server is away.
    """
    return IndexFolder.open(path).index(verify=verify, device=device, candidates=candidates)


def check_candidates(candidates: int | None, similarity: Similarity) -> None:
    """Raise ConfigError where ``candidates`` are asked for and the index keeps nothing to re-rank by."""
    if candidates is not None and similarity.reranked is None:
        raise ConfigError(
            "this index keeps nothing to re-rank by, so rerank.candidates cannot be set; "
            "build it with rerank.candidates=120, or leave the setting empty"
        )
    if candidates is not None and candidates < 1:
        raise ConfigError(f"rerank.candidates must be at least 1, got {candidates}")


def _with_candidates(similarity: Similarity, candidates: int | None) -> Similarity:
    if candidates is None or similarity.reranked is None:
        return similarity
    return similarity.reranked.with_candidates(candidates)
