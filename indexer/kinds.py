"""What a data set holds and a backbone sees."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

Kind = Literal["image", "text", "audio"]

#: What one input of each kind is called.
NOUNS: Mapping[str, str] = {"image": "image", "text": "text", "audio": "recording"}


def describes_images(data: Mapping[str, Any]) -> bool:
    """Whether an index with this recipe in its manifest holds whole images, and not patches."""
    return (data.get("features") or {}).get("level") == "image"
