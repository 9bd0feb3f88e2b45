"""Small pictures of the memory images, so that an answer can be shown without the originals."""

from __future__ import annotations

from retrieval.store.commit import THUMBS


def thumbnail_name(number: int) -> str:
    """The name, relative to the index's folder, of the thumbnail of an image number."""
    return f"{THUMBS}/{number:06d}.jpg"
