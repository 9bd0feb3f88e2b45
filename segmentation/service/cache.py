"""Described photos, kept by what was uploaded, up to so many bytes."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from dataclasses import dataclass

from segmentation.description import Description

#: Hexadecimal digits of an id.
ID_LENGTH = 32


def id_of(content: bytes) -> str:
    """The id of an upload: the first half of its SHA-256."""
    return hashlib.sha256(content).hexdigest()[:ID_LENGTH]


@dataclass(frozen=True)
class Seen:
    """A photo that was described."""

    id: str
    content: bytes
    """The file as it was uploaded."""
    name: str
    description: Description

    @property
    def bytes(self) -> int:
        """What keeping it takes, about."""
        views = sum(view.vectors.nbytes for view in self.description.views)
        photo = 0 if self.description.photo is None else self.description.photo.nbytes
        return len(self.content) + views + photo


class DescriptionCache:
    """The photos seen last; the one that was not asked about for longest goes first."""

    def __init__(self, most: int) -> None:
        """``most`` bytes are kept."""
        self._most = most
        self._lock = threading.Lock()
        self._seen: OrderedDict[str, Seen] = OrderedDict()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._seen)

    def get(self, id: str) -> Seen | None:
        """The photo of an id, or None where it was not seen or is gone."""
        with self._lock:
            seen = self._seen.get(id)
            if seen is not None:
                self._seen.move_to_end(id)
            return seen

    def put(self, seen: Seen) -> None:
        """Keep a photo; one larger than the whole cache is not kept."""
        with self._lock:
            before = self._seen.pop(seen.id, None)
            self.bytes -= before.bytes if before is not None else 0
            if seen.bytes > self._most:
                return
            self._seen[seen.id] = seen
            self.bytes += seen.bytes
            while self.bytes > self._most:
                _, oldest = self._seen.popitem(last=False)
                self.bytes -= oldest.bytes
