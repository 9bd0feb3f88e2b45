"""Text files as people's tools write them."""

from __future__ import annotations

import codecs

#: Byte order marks and the encodings they stand for; UTF-32's begins with UTF-16's.
_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
    b"": "utf-8-sig",
}


def decode_text(content: bytes) -> str:
    """Bytes in UTF-8, or in UTF-16 or UTF-32 where they begin with their mark, as Windows writes them.

    Raises UnicodeDecodeError.
    """
    mark = next(mark for mark in _MARKS if content.startswith(mark))
    return content.decode(_MARKS[mark])
