"""Texts on disk: which files hold them, and reading one."""

from __future__ import annotations

from pathlib import Path

from retrieval.errors import TextError
from retrieval.store.text import decode_text


def read_text_file(path: Path) -> str:
    """The text in a file, UTF-8 or with the mark of UTF-16 or UTF-32; raises TextError."""
    try:
        return decode_text(path.read_bytes())
    except (OSError, UnicodeDecodeError) as error:
        raise TextError(f"{path} cannot be read as text ({error}); save it in UTF-8") from error
