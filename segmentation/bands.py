"""Bands of rows: what is computed pixel by pixel, some rows at a time, so that it takes little memory."""

from __future__ import annotations

from collections.abc import Iterator

#: Pixels of a band.
BAND = 1_000_000


def bands(shape: tuple[int, ...], *, pixels: int = BAND) -> Iterator[slice]:
    """The rows of an array (H, W, ...), some at a time from the top, of about ``pixels`` pixels together."""
    height, width = shape[:2]
    step = max(1, pixels // max(1, width))
    for start in range(0, height, step):
        yield slice(start, min(start + step, height))
