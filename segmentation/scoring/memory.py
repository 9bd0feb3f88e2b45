"""Which images of a data set the memory was built from, and how each is scored without itself."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from indexer.datasets.keys import SourceKey
from retrieval.errors import ConfigError
from retrieval.index import PatchIndex
from retrieval.neighbors import Filter
from retrieval.store.records import ImageRecord


class MemoryImages:
    """The memory's images by the SHA-256 of their files: the same content counts, whatever its name."""

    def __init__(self, records: Iterable[ImageRecord]) -> None:
        """``records`` are those of an index; removed images are in no memory."""
        self._numbers: dict[str, list[int]] = {}
        for record in records:
            if not record.removed and record.sha256:
                self._numbers.setdefault(record.sha256, []).append(record.number)

    def __len__(self) -> int:
        """Images of different content."""
        return len(self._numbers)

    def numbers_of(self, source: Path | SourceKey) -> list[int]:
        """The image numbers of a content, a file's or a key's, one for each epoch; empty without."""
        key = source if isinstance(source, SourceKey) else SourceKey.of_file(source)
        return self._numbers.get(key.sha256, [])


def without(numbers: Iterable[int], given: Filter | None) -> Filter:
    """A filter that leaves out these image numbers too."""
    base = given or Filter()
    return replace(base, not_images=sorted({*base.not_images, *numbers}))


def check_leave_out(index: PatchIndex, images: Iterable[ImageRecord]) -> None:
    """Raise ConfigError where an index cannot leave one image out: merged rows, or no other image."""
    if index.manifest.counts.get("patches") is not None:
        raise ConfigError(
            "--leave-out needs rows of one image each, but those of a compacted index stand for several; "
            "evaluate the index that it was made from"
        )
    if len(MemoryImages(images)) < 2:
        raise ConfigError("--leave-out needs at least two images in the memory; add images to the index")
