"""An index on disk as everyone opens it."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from retrieval.engines.qdrant.locate import local_folder
from retrieval.index import PatchIndex, open_index
from retrieval.store.manifest import Manifest, finish_commit, read_manifest
from retrieval.store.records import ImageRecord, read_images


class IndexFolder:
    """One state of an index: what its manifest says, its image records and thumbnails."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        """Use :meth:`open`."""
        self.path = path
        self.manifest = manifest

    @classmethod
    def open(cls, path: str | Path) -> IndexFolder:
        """The index in the folder ``path``, or at ``qdrant://HOST:PORT/COLLECTION``."""
        folder = local_folder(path)
        finish_commit(folder)
        return cls(folder, read_manifest(folder))

    @property
    def live_rows(self) -> int:
        """Rows added and not removed, as the manifest counts them."""
        return self.manifest.counts.get("rows", 0) - self.manifest.counts.get("removed", 0)

    @cached_property
    def records(self) -> list[ImageRecord]:
        """The records of all memory images and epochs, removed ones included."""
        return read_images(self.path)

    def thumbnail(self, number: int) -> Path | None:
        """The small JPEG of an image number of the first epoch; None where there is none."""
        path = self.path / "thumbs" / f"{number:06d}.jpg"
        return path if path.is_file() else None

    def index(self, *, device: str = "cpu", candidates: int | None = None) -> PatchIndex:
        """Open the vectors of this state, as :func:`retrieval.index.open_index` does."""
        return open_index(self.path, device=device, candidates=candidates)
