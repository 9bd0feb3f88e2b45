"""What a data set holds and a backbone sees."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

Kind = Literal["image", "text", "audio"]

#: What one input of each kind is called.
NOUNS: Mapping[str, str] = {"image": "image", "text": "text", "audio": "recording"}
