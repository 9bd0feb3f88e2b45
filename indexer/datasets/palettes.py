"""What the indices of a palette mask mean, where its palette has something to say."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from indexer.datasets.masks import Color, ColorCode, read_mask_file
from indexer.images.decode import open_image
from retrieval.classes import UNLABELLED, ClassMap
from retrieval.errors import DatasetError, MaskError

#: Stands for an index that is neither a class nor ignored.
_UNKNOWN = -2

Palette = tuple[Color, ...]


def palette_columns(
    pixels: npt.NDArray[Any], palette: Palette, classes: ClassMap, colors: ColorCode, *, where: str
) -> npt.NDArray[np.int32]:
    """Class columns of palette indices: (H, W) integers -> (H, W) int32, -1 unlabelled.

    An index means its class where no colour of the palette contradicts that: each used index has the
    colour of its own class, or one that is nobody's. Otherwise, where every used index has the colour of
    a class (or is ignored), the colours decide, unless ``colors`` only checks. Palettes without meaning
    (index i is the grey i) are passed over. Raises MaskError, naming ``where``, for anything between.
    """
    if colors.palettes == "free" or not palette or is_identity(palette):
        return classes.columns(pixels, where=where)
    used = np.flatnonzero(np.bincount(pixels.ravel())).tolist()
    own = {index: _own_column(classes, index) for index in used}
    meant = {index: colors.meanings(palette[index]) if index < len(palette) else set() for index in used}
    wrong = [index for index in used if meant[index] and own[index] not in meant[index]]
    # Palettes are filled up with black, which so says nothing about an ignored index.
    if all(own[index] == UNLABELLED and palette[index] == (0, 0, 0) for index in wrong):
        if colors.palettes == "known" and not _is_grey(palette):
            _check_known(used, palette, meant, own, where)
        return classes.columns(pixels, where=where)
    decided = {
        index: own[index] if not columns and own[index] == UNLABELLED else _only(columns, own[index])
        for index, columns in meant.items()
    }
    ignored = any(own[index] == UNLABELLED and meant[index] - {UNLABELLED} for index in used)
    if colors.palettes == "check" or ignored or _UNKNOWN in decided.values():
        raise MaskError(_contradiction(wrong, palette, classes, meant, own, where))
    table = np.full(max(used) + 1, UNLABELLED, dtype=np.int32)
    table[used] = [decided[index] for index in used]
    columns: npt.NDArray[np.int32] = table[pixels]
    return columns


def _own_column(classes: ClassMap, index: int) -> int:
    try:
        return int(classes.columns(np.array([index]))[0])
    except MaskError:
        return _UNKNOWN


def _only(columns: set[int], own: int) -> int:
    if own in columns:
        return own
    return next(iter(columns)) if len(columns) == 1 else _UNKNOWN


def _contradiction(
    wrong: list[int],
    palette: Palette,
    classes: ClassMap,
    meant: dict[int, set[int]],
    own: dict[int, int],
    where: str,
) -> str:
    index = next((index for index in wrong if own[index] != UNLABELLED), wrong[0])
    column = min(meant[index])
    theirs = "no label" if column == UNLABELLED else f"class {classes.names[column]!r}"
    ours = {_UNKNOWN: "is no class", UNLABELLED: "is ignored"}.get(own[index], "")
    ours = ours or f"is class {classes.names[own[index]]!r}"
    return (
        f"{where}: index {index} {ours}, but its palette gives it the colour {palette[index]}, which is "
        f"that of {theirs}; save all masks with one palette in the order of the ids, or as RGB or grey PNG"
    )


def _check_known(
    used: list[int], palette: Palette, meant: dict[int, set[int]], own: dict[int, int], where: str
) -> None:
    for index in used:
        if index < len(palette) and not meant[index] and own[index] != UNLABELLED:
            raise MaskError(
                f"{where}: index {index} has the colour {palette[index]}, which is no class's colour"
            )


def is_identity(palette: Palette) -> bool:
    """Whether every index is its own grey value: such a palette says nothing."""
    return len(palette) > 1 and all(color == (index,) * 3 for index, color in enumerate(palette))


def _is_grey(palette: Palette) -> bool:
    return all(red == green == blue for red, green, blue in palette)


@dataclass
class PaletteBook:
    """What the palettes of many masks say about the indices that these use, and where two disagree."""

    _first: dict[tuple[bool, int], tuple[Color, Path, Palette]] = field(default_factory=dict)
    _index_of: dict[tuple[bool, Color], tuple[int, Path, Palette]] = field(default_factory=dict)

    def add(self, path: Path, palette: Palette, used: Iterable[int]) -> None:
        """Note a mask's palette and the indices that occur in it; no palette and the identity say nothing.

        Grey palettes are compared with grey ones only. Raises DatasetError, naming both files, where one
        index has two colours, or one colour two indices.
        """
        if not palette or is_identity(palette):
            return
        grey = _is_grey(palette)
        for index in sorted(index for index in used if index < len(palette)):
            color = palette[index]
            known, file, _ = self._first.setdefault((grey, index), (color, path, palette))
            if known != color:
                raise DatasetError(
                    f"the palettes of the masks differ: index {index} is {known} in {file} and {color} "
                    f"in {path}; {_CURE}"
                )
            other, file, theirs = self._index_of.setdefault((grey, color), (index, path, palette))
            if other != index and _lacks(theirs, index, color) and _lacks(palette, other, color):
                raise DatasetError(
                    f"the palettes of the masks differ: {color} is index {other} in {file} and index "
                    f"{index} in {path}; {_CURE}"
                )


_CURE = (
    "save all masks with one palette, or give every class its colour in classes.json, "
    "so that the colours decide"
)


def _lacks(palette: Palette, index: int, color: Color) -> bool:
    return index >= len(palette) or palette[index] != color


def check_palettes(paths: Iterable[Path]) -> None:
    """Compare the palettes of masks whose classes have no colours; only where they differ are masks decoded.

    Raises DatasetError, naming two files, where they disagree about an index that is used.
    """
    palettes = [(path, _header_palette(path)) for path in paths]
    if len({palette for _, palette in palettes if palette}) < 2:
        return
    book = PaletteBook()
    for path, header in palettes:
        if not header:
            continue
        try:
            pixels, palette = read_mask_file(path)
        except MaskError:  # raised again when the sample is read
            continue
        book.add(path, palette, np.unique(pixels).tolist())


def _header_palette(path: Path) -> bytes:
    """The raw palette of an image file, without decoding it; nothing where it has none or cannot be read."""
    try:
        with open_image(path, where=str(path), error=MaskError) as image:
            return bytes(image.palette.palette) if image.mode == "P" and image.palette is not None else b""
    except Exception:  # whoever reads the mask says what is wrong with it
        return b""
