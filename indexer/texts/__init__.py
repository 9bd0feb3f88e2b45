"""Texts on disk: which files hold them, and reading one."""

from __future__ import annotations

from pathlib import Path

from retrieval.errors import TextError
from retrieval.store.paths import special_kind
from retrieval.store.text import decode_text


def read_text_file(path: Path) -> str:
    """The text in a file, UTF-8 or with the mark of UTF-16 or UTF-32; raises TextError."""
    if (special := special_kind(path)) is not None:
        raise TextError(f"{path} is {special}, where a text file was expected; save it as a file first")
    try:
        return decode_text(path.read_bytes())
    except (OSError, UnicodeDecodeError) as error:
        raise TextError(f"{path} cannot be read as text ({error}); save it in UTF-8") from error
