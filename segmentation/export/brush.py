"""The run-length code of Label Studio's brush.

The format is that of rle-pack (https://github.com/thi-ng/umbrella, packages/rle-pack), over the four 8 bit
channels of each pixel: all 255 where painted, else 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_CHANNELS = 4
_WORD = 8
#: Bits that a run's length less one may take; two bits before each run choose among them.
_SIZES = (3, 4, 8, 16)


def pack(runs: Sequence[int]) -> list[int]:
    """Bytes (0..255) of a mask given as runs of unpainted, painted, ... pixels, row by row."""
    head = f"{_CHANNELS * sum(runs):032b}{_WORD - 1:05b}" + "".join(f"{size - 1:04b}" for size in _SIZES)
    pieces = [head]
    for number, pixels in enumerate(runs):
        value = f"{255 if number % 2 else 0:08b}"
        pieces.extend(_run(length, value) for length in _lengths(_CHANNELS * pixels))
    bits = np.frombuffer("".join(pieces).encode("ascii"), dtype=np.uint8) - ord("0")
    packed: list[int] = np.packbits(bits).tolist()
    return packed


def _lengths(length: int) -> list[int]:
    """A run in pieces that the code can hold."""
    longest = 1 << _SIZES[-1]
    whole, rest = divmod(length, longest)
    return [longest] * whole + ([rest] if rest else [])


def _run(length: int, value: str) -> str:
    choice = next(number for number, size in enumerate(_SIZES) if length <= 1 << size)
    return f"1{choice:02b}{length - 1:0{_SIZES[choice]}b}{value}"
