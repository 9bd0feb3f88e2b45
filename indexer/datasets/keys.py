"""What an image and its labels were read from, so that later it can be told whether that has changed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retrieval.store.files import sha256_file
from retrieval.store.paths import special_kind


@dataclass(frozen=True)
class SourceKey:
    """A name and the SHA-256 (hexadecimal) of the content behind it; empty where nothing can be read.

    ``stamp``, a file's (size in bytes, time of change in nanoseconds), spares computing the checksum again.
    """

    name: str
    sha256: str
    stamp: tuple[int, int] | None = None

    @classmethod
    def of_file(cls, path: Path, *, name: str | None = None, known: SourceKey | None = None) -> SourceKey:
        """The key of a file as it is now, called ``name``; ``known`` is one from earlier.

        The file is read only where its size or time of change is not that of ``known``.
        """
        name = str(path) if name is None else name
        if special_kind(path) is not None:  # reading a pipe would wait for ever
            return cls(name, "")
        try:
            status = path.stat()
            stamp = (status.st_size, status.st_mtime_ns)
            if known is not None and (known.name, known.stamp) == (name, stamp):
                return known
            return cls(name, sha256_file(path), stamp)
        except OSError:
            return cls(name, "")

    @classmethod
    def of_bytes(cls, name: str, content: bytes) -> SourceKey:
        """The key of content that is no file of its own: a line, a member of an archive, a number."""
        return cls(name, hashlib.sha256(content).hexdigest())

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> SourceKey:
        """The inverse of ``dataclasses.asdict``; raises LookupError or TypeError for another shape."""
        stamp = data["stamp"]
        return cls(str(data["name"]), str(data["sha256"]), None if stamp is None else (stamp[0], stamp[1]))

    def equals(self, other: SourceKey) -> bool:
        """Whether both stand for the same content under the same name, whenever it was written."""
        return (self.name, self.sha256) == (other.name, other.sha256)


@dataclass(frozen=True)
class SampleKeys:
    """The keys of an image and of its labels."""

    image: SourceKey
    labels: SourceKey

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> SampleKeys:
        """The inverse of ``dataclasses.asdict``; raises LookupError or TypeError for another shape."""
        return cls(SourceKey.from_json(data["image"]), SourceKey.from_json(data["labels"]))
