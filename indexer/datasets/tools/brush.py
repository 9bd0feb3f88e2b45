"""Label Studio's run lengths of brush strokes: bits that hold the four channels of every pixel.

32 bits say how many values there are, 5 how wide one is (less one), 4 x 4 how wide the four kinds of lengths
are (less one). Blocks follow: a bit (1: one value, repeated; 0: as many values as the length), two bits
(which kind of length), the length (less one), the values.
Source: HumanSignal/label-studio-converter, label_studio_converter/brush.py (decode_rle).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def decode_brush(data: Sequence[int], size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Where a brush stroke of an image of that size (height, width) is half opaque or more, (H, W) bool.

    Raises ValueError for bytes that are none, are cut off, or make another number of pixels.
    """
    if not all(type(byte) is int and 0 <= byte <= 255 for byte in data):
        raise ValueError("its rle must be a list of bytes, each 0..255")
    bits = _Bits(np.unpackbits(np.array(data, dtype=np.uint8)))
    height, width = size
    count = bits.number(32)
    if count != height * width * 4:
        raise ValueError(f"its rle holds {count} values, expected 4 for each of {height} x {width} pixels")
    wide = bits.number(5) + 1
    if wide > 8:
        raise ValueError(f"its rle holds values of {wide} bits, expected at most 8")
    lengths = [bits.number(4) + 1 for _ in range(4)]
    values = np.zeros(count, dtype=np.uint8)
    place = 0
    while place < count:
        repeated = bits.number(1)
        length = bits.number(lengths[bits.number(2)]) + 1
        if place + length > count:
            raise ValueError("its rle holds more values than it says")
        values[place : place + length] = bits.number(wide) if repeated else bits.numbers(length, wide)
        place += length
    return values.reshape(height, width, 4)[:, :, 3] >= 128


class _Bits:
    """Reads numbers, highest bit first, from bits in a row."""

    def __init__(self, bits: npt.NDArray[np.uint8]) -> None:
        self._bits = bits
        self._text = (bits + ord("0")).tobytes().decode("ascii")
        self._place = 0

    def number(self, wide: int) -> int:
        """The next number of so many bits."""
        return int(self._text[self._take(wide) : self._place], 2)

    def numbers(self, count: int, wide: int) -> npt.NDArray[np.int64]:
        """The next numbers of so many bits each."""
        start = self._take(count * wide)
        powers = 1 << np.arange(wide - 1, -1, -1)
        found: npt.NDArray[np.int64] = self._bits[start : self._place].reshape(count, wide) @ powers
        return found

    def _take(self, count: int) -> int:
        start = self._place
        self._place += count
        if self._place > len(self._bits):
            raise ValueError("its rle is cut off")
        return start
