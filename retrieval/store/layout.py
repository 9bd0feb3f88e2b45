"""Names of what lies in the folder of an index, besides the engine's and the rows' own files."""

from __future__ import annotations

#: What the index says of itself; without it there is no index.
MANIFEST = "manifest.json"

#: The lock of whoever changes the index; there only while it is held.
CHANGE_LOCK = "change.lock"

#: All that maps an image to vectors, the records of the memory images, and the folder of their thumbnails.
FEATURES, IMAGES, THUMBS = "features.safetensors", "images.jsonl", "thumbs"


def thumbnail_name(number: int) -> str:
    """The name, relative to the index's folder, of the thumbnail (a small JPEG) of an image number."""
    return f"{THUMBS}/{number:06d}.jpg"
