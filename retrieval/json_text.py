"""JSON from outside: one reader, with limits on bytes, depth and numbers.

What it returns can be worked with without surprises: nothing is nested deeper than :data:`MOST_DEPTH`, every
text can be written as UTF-8, every whole number has at most :data:`MOST_DIGITS` digits, and every other
number is finite (unless the caller takes others, which some tools write).
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

#: How deep lists and objects may stand in each other.
MOST_DEPTH = 100
#: Digits of a whole number: what 128 bits need.
MOST_DIGITS = 39
#: Bytes of a file of our own: a manifest, a list of classes.
MOST_BYTES = 256 * 2**20
#: Bytes of a labelling tool's file, which holds the shapes of a whole data set.
MOST_TOOL_BYTES = 8 * 2**30

#: Bytes that are read at a time.
_BLOCK = 2**24

_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


class ParseError(ValueError):
    """A text is no JSON or YAML, or beyond its reader's limits; the message says which, and no path."""


def read_limited(path: Path, *, most: int = MOST_BYTES) -> bytes:
    """The bytes of a file. Raises OSError, and ParseError for a file of more than ``most`` bytes."""
    with path.open("rb") as file:
        blocks, size = [], 0
        # never asked for all at once: a buffer of ``most`` bytes would be made before the first is read
        while size <= most and (block := file.read(min(_BLOCK, most + 1 - size))):
            blocks.append(block)
            size += len(block)
    return within(b"".join(blocks), most)


def within(content: bytes, most: int) -> bytes:
    """``content``, if it has at most ``most`` bytes; raises ParseError otherwise."""
    if len(content) > most:
        raise ParseError(f"it has more than {most:,} bytes")
    return content


def parse_json(
    content: bytes | str, *, most: int = MOST_BYTES, finite: bool = True, own: bool = False
) -> Any:
    """What a JSON text says, UTF-8 with or without a mark; ``finite`` refuses NaN and infinite numbers.

    ``own``: written by Mycelia itself, whose names of files need not be texts.

    Raises ParseError for anything that is no JSON and for what the limits above refuse.
    """
    if len(content) > most:
        raise ParseError(f"it has more than {most:,} bytes")
    try:
        text = content.decode("utf-8-sig") if isinstance(content, bytes) else content.removeprefix("\ufeff")
    except UnicodeDecodeError as problem:
        raise ParseError(f"it is no UTF-8: {problem.reason} at byte {problem.start}") from problem
    constant = _no_number if finite else float
    number = _finite if finite else float
    try:
        data = json.loads(text, parse_int=_whole, parse_float=number, parse_constant=constant)
    except RecursionError:
        raise ParseError(f"it is nested deeper than {MOST_DEPTH} levels") from None
    except ParseError:
        raise
    except ValueError as problem:
        raise ParseError(f"it is no JSON: {problem}") from problem
    check_depth(data)
    if not own and _SURROGATE.search(text):
        check_texts(data)
    return data


def check_depth(data: Any, most: int = MOST_DEPTH) -> None:
    """Raise ParseError where lists and mappings stand in each other deeper than ``most`` levels."""
    level = [data] if isinstance(data, list | dict) else []
    for _ in range(most):
        if not level:
            return
        level = [
            value
            for node in level
            for value in (node.values() if isinstance(node, dict) else node)
            if isinstance(value, list | dict)
        ]
    if level:
        raise ParseError(f"it is nested deeper than {most} levels")


def check_texts(data: Any) -> None:
    """Raise ParseError for a text with half a character (a lone surrogate), which no file can hold."""
    left = [data]
    while left:
        value = left.pop()
        if isinstance(value, dict):
            left += [*value.keys(), *value.values()]
        elif isinstance(value, list):
            left += value
        elif isinstance(value, str) and not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError:
                raise ParseError(
                    f"the text {value[:40]!a} holds half a character (a lone surrogate)"
                ) from None


def _whole(digits: str) -> int:
    if len(digits.lstrip("-")) > MOST_DIGITS:
        raise ParseError(
            f"the number {digits[:12]}... has {len(digits):,} digits, at most {MOST_DIGITS} are read"
        )
    return int(digits)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ParseError(f"the number {text[:20]} is too large")
    return number


def _no_number(text: str) -> float:
    raise ParseError(f"{text} is no number of JSON")
