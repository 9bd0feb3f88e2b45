"""What mask files hold before anybody has said what it means: class ids or colours, counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from indexer.datasets.masks import Color, color_of_id, pack_colors, read_mask_file, unpack_color
from retrieval.errors import MaskError
from retrieval.progress import Progress, track


@dataclass(frozen=True)
class MaskValue:
    """A class id (or a colour, where ``id`` is None) that occurs in masks."""

    id: int | None
    color: Color  #: of the first palette that has the id; for grey ids the usual colour map's
    pixels: int
    share: float  #: of all pixels that were read, 0..1
    images: int  #: in how many masks it occurs

    @property
    def name(self) -> str:
        """``id 3``, or the colour as ``(red, green, blue)``."""
        return str(self.color) if self.id is None else f"id {self.id}"


@dataclass(frozen=True)
class MaskValues:
    """All values of a number of masks."""

    ids: tuple[MaskValue, ...]  #: by id
    colors: tuple[MaskValue, ...]  #: of RGB masks, largest share first
    masks: int  #: how many were read
    palettes: int  #: different palettes among them, compared at the ids that each mask uses
    disagreeing: tuple[str, ...]  #: a sentence for each id whose colour differs from file to file
    bad: tuple[tuple[Path, str], ...]  #: masks that could not be read, and why

    @property
    def all(self) -> tuple[MaskValue, ...]:
        """Ids, then colours."""
        return self.ids + self.colors


@dataclass
class _Counts:
    pixels: Counter[int] = field(default_factory=Counter)
    images: Counter[int] = field(default_factory=Counter)

    def add(self, values: npt.NDArray[Any], counts: npt.NDArray[Any]) -> None:
        for value, count in zip(values.tolist(), counts.tolist(), strict=True):
            self.pixels[value] += count
            self.images[value] += 1


def find_values(paths: Sequence[Path], *, progress: Progress | None = None) -> MaskValues:
    """Count the ids and colours in mask files; a mask that cannot be read is listed, and never raises."""
    counted = {False: _Counts(), True: _Counts()}  # ids, packed colours
    palettes = _Palettes()
    bad: list[tuple[Path, str]] = []
    with track(progress, "reading masks", len(paths)) as task:
        for path in paths:
            try:
                pixels, palette = read_mask_file(path)
            except MaskError as error:
                bad.append((path, str(error)))
            else:
                values, counts = _count(pixels)
                counted[pixels.ndim == 3].add(values, counts)
                if palette and pixels.ndim == 2:
                    palettes.add(path, palette, values.tolist())
            task.advance()
    total = sum(counts.pixels.total() for counts in counted.values())
    ids = [
        MaskValue(id, palettes.color(id), pixels, pixels / total, counted[False].images[id])
        for id, pixels in sorted(counted[False].pixels.items())
    ]
    colors = [
        MaskValue(None, unpack_color(code), pixels, pixels / total, counted[True].images[code])
        for code, pixels in sorted(counted[True].pixels.items(), key=lambda item: (-item[1], item[0]))
    ]
    masks = len(paths) - len(bad)
    return MaskValues(
        tuple(ids), tuple(colors), masks, palettes.different, tuple(palettes.sentences()), tuple(bad)
    )


class _Palettes:
    """The palettes seen, and where an id has another colour than in an earlier file."""

    def __init__(self) -> None:
        self._first: dict[int, tuple[Color, Path]] = {}
        self._other: dict[int, tuple[Color, Path]] = {}
        self._seen: list[dict[int, Color]] = []

    @property
    def different(self) -> int:
        return len(self._seen)

    def add(self, path: Path, palette: tuple[Color, ...], ids: list[int]) -> None:
        used = {id: palette[id] for id in ids if 0 <= id < len(palette)}
        for id, color in used.items():
            known, _ = self._first.setdefault(id, (color, path))
            if known != color:
                self._other.setdefault(id, (color, path))
        for seen in self._seen:
            if all(seen.get(id, color) == color for id, color in used.items()):
                seen.update(used)
                return
        self._seen.append(dict(used))

    def color(self, id: int) -> Color:
        return self._first[id][0] if id in self._first else color_of_id(id)

    def sentences(self) -> Iterator[str]:
        for id, (color, path) in sorted(self._other.items()):
            known, first = self._first[id]
            yield f"id {id} has the colour {known} in {first} and {color} in {path}"


def _count(pixels: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """The values of a mask, colours packed into one number, and how many pixels each has."""
    if pixels.ndim == 3:
        pixels = pack_colors(pixels.astype(np.int32))
    if pixels.dtype == np.uint8:
        counts = np.bincount(pixels.ravel(), minlength=256)
        values = np.flatnonzero(counts)
        return values, counts[values]
    found: tuple[npt.NDArray[Any], npt.NDArray[Any]] = np.unique(pixels, return_counts=True)
    return found
