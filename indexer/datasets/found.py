"""Classes that nobody named: the ids that occur in the masks, unless they look like something else."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from indexer.datasets.class_file import CLASS_FILE, USUAL_IGNORE
from indexer.datasets.class_lists import NamedClasses
from indexer.datasets.masks import Color, ColorCode, color_of_id, pack_colors, read_mask_file, unpack_color
from indexer.datasets.palettes import Palette, PaletteBook, check_palettes, is_identity
from indexer.datasets.pixel_shares import SAMPLE, spread
from retrieval.classes import ClassInfo, ClassMap
from retrieval.errors import DatasetError, MaskError

#: So many scattered values are noise; more of them where the ids are 0, 1, 2, ... without a gap.
_SCATTERED, _SCATTERED_WITHOUT_GAP = 6, 12
#: So many are noise even where they hold most of the pixels: a photo.
_SCATTERED_PHOTO = 200
#: So many, with gaps between them, are noise even where each has few pixels.
_SCATTERED_SPARSE = 24
#: The share of the pixels of unlabelled areas, where the other ids are 0, 1, 2, ..., that is no oddity.
_VOID_SHARE = 0.25


def found_classes(root: Path, masks: Iterable[Path]) -> ClassMap:
    """The ids that occur in any mask of any split, so that all splits share one class map; 255 is no label.

    Refused, with what was found and what to do, are

    - colours (RGB masks), and palettes that differ from file to file;
    - noise, as JPEG, smooth scaling and quantisation leave it: six or more scattered values (twelve, where
      the ids have no gap) beside large areas that hold a fifth of the pixels. A value is scattered where
      less than half of its pixels lie in a 2 x 2 block of that value, and there are four or more a value
      (of two dozen with gaps between them, more than one): real classes, however many and rare, come in
      areas;
    - 255 where it is no border but areas (most of it survives an opening), unless the other ids are
      three or more from 0 or 1 on and it takes at most a quarter of the pixels (masks of 255 alone are
      images without labels, and not counted); where it is the white of a
      grey picture (0, 128, 255); and where some masks hold 0 and 1, and others 0 and 255.

    Raises DatasetError for these, MaskError where no mask can be read.
    """
    paths, values, book = list(masks), _Values(), PaletteBook()
    colors: tuple[Color, ...] = ()
    problem: MaskError | None = None
    for path in paths:
        try:
            pixels, palette = read_mask_file(path)
        except MaskError as error:  # raised again when the sample is read, where bad ones may be skipped
            problem = problem or error
            continue
        if pixels.ndim == 3:
            raise DatasetError(_colors_problem(root, path, paths))
        if pixels.min() < 0 or pixels.max() > 65535:
            raise DatasetError(
                f"the masks of {root} hold class ids outside 0..65535 ({path}); "
                "save them as 8 or 16 bit class ids"
            )
        book.add(path, palette, values.add(path, pixels))
        colors = colors or palette
    if not values.files and problem is not None:
        raise problem
    values.check(root)
    return ClassMap(
        tuple(
            ClassInfo(id, f"class_{id}", colors[id] if id < len(colors) else color_of_id(id))
            for id in values.ids
        ),
        ignore=(USUAL_IGNORE,),
    )


def found_colors(masks: Iterable[Path], *, limit: int = SAMPLE) -> list[tuple[Color, float]]:
    """The colours of at most ``limit`` RGB or palette masks and their shares of the pixels, largest first.

    Grey masks, and those that cannot be read, are passed over.
    """
    counts: dict[int, int] = {}
    paths = list(masks)
    for position in spread(len(paths), limit):
        try:
            pixels, palette = read_mask_file(paths[position])
        except MaskError:
            continue
        if pixels.ndim == 2:
            if not palette or int(pixels.max()) >= len(palette):
                continue
            pixels = np.array(palette, dtype=np.uint8)[pixels]
        codes, numbers = np.unique(pack_colors(pixels.astype(np.int32)), return_counts=True)
        for code, number in zip(codes.tolist(), numbers.tolist(), strict=True):
            counts[code] = counts.get(code, 0) + number
    total = max(sum(counts.values()), 1)
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [(unpack_color(code), number / total) for code, number in ordered]


def _colors_problem(root: Path, path: Path, paths: list[Path]) -> str:
    colors = found_colors([path, *paths])
    top = ", ".join(f"{color} {share:.1%}" for color, share in colors[:6])
    rest = f" and {len(colors) - 6} more" if len(colors) > 6 else ""
    return (
        f"mask {path} holds RGB colours; say in {root / CLASS_FILE} which class each colour is: found are "
        f"{top}{rest} (`mycelia classes {root} --write` writes a file to fill in)"
    )


def _says_white(palette: Palette, colors: ColorCode | None) -> bool:
    """Whether a mask's palette, not its ids, says what 255 is."""
    if not palette or colors is None or is_identity(palette) or colors.palettes == "free":
        return False
    return colors.palettes == "decide" or bool(colors.meanings(palette[-1]))


def check_named(named: NamedClasses, masks: Iterable[Path]) -> None:
    """Raise DatasetError where masks contradict each other, or the classes that are named for them.

    Palettes are compared where their colours do not decide; see also :func:`check_white`.
    """
    paths = list(masks)
    if named.colors is None or named.colors.palettes == "free":
        check_palettes(paths)
    check_white(named, paths)


def check_white(named: NamedClasses, masks: Iterable[Path], *, limit: int = 20) -> None:
    """Look at a few masks whether 255 is the white of black and white masks, where nobody says what it is.

    Nothing is looked at where 255 is a class, or the file says what to ignore. Raises DatasetError where
    0 and 255 are all that occurs, or some masks hold 0 and 1 and others 0 and 255.
    """
    if named.says_ignore or USUAL_IGNORE in named.classes.ids or len(named.classes) < 2:
        return
    paths, values = list(masks), _Values()
    for position in spread(len(paths), limit):
        try:
            pixels, palette = read_mask_file(paths[position])
        except MaskError:  # raised again when the sample is read
            continue
        # Values that can be no ids are refused when the sample is read.
        usable = pixels.ndim == 2 and int(pixels.min()) >= 0 and int(pixels.max()) <= 65535
        if usable and not _says_white(palette, named.colors):
            values.add(paths[position], pixels)
    if values.white is None or not values.counts.keys() <= {0, 1, USUAL_IGNORE}:
        return
    if values.ones is not None or 1 not in values.counts:
        raise DatasetError(
            f"mask {values.white} holds 0 and 255, but 255 is no class of {named.path} and so no label; "
            'make it the id of its class there, or say "ignore": [255] if it is none'
        )


@dataclass
class _Values:
    """The values of masks, and how they lie in them."""

    counts: dict[int, int] = field(default_factory=dict)
    solid: dict[int, int] = field(default_factory=dict)  #: pixels in a 2 x 2 block of one value
    files: int = 0
    white: Path | None = None  #: a mask of 0 and 255 alone
    ones: Path | None = None  #: a mask of 0 and 1 alone
    areas: int = 0  #: pixels of 255 that are no border
    widest: tuple[int, Path] | None = None  #: the most such pixels in one mask

    @property
    def ids(self) -> list[int]:
        """The values that are classes."""
        return sorted(self.counts.keys() - {USUAL_IGNORE})

    def add(self, path: Path, pixels: npt.NDArray[Any]) -> list[int]:
        """Count a mask; its values."""
        counts = np.bincount(pixels.ravel())
        used: list[int] = np.flatnonzero(counts).tolist()
        if used == [USUAL_IGNORE]:  # an image without labels, which says nothing of the others
            self.files += 1
            return used
        solid = np.bincount(pixels[_in_blocks(pixels)], minlength=len(counts))
        for value in used:
            self.counts[value] = self.counts.get(value, 0) + int(counts[value])
            self.solid[value] = self.solid.get(value, 0) + int(solid[value])
        self.files += 1
        if USUAL_IGNORE in used:
            area = _area(pixels == USUAL_IGNORE)
            self.areas += area
            if self.widest is None or area > self.widest[0]:
                self.widest = area, path
            if set(used) <= {0, USUAL_IGNORE}:
                self.white = self.white or path
        elif 1 in used and set(used) <= {0, 1}:
            self.ones = self.ones or path
        return used

    def check(self, root: Path) -> None:
        """Raise DatasetError where the values are no class ids."""
        if not self.ids:
            raise DatasetError(self._only_white(root))
        self._check_noise(root)
        if USUAL_IGNORE in self.counts:
            self._check_white(root)

    def _only_white(self, root: Path) -> str:
        values = ", ".join(map(str, [*self.ids, USUAL_IGNORE]))
        return (
            f"the masks of {root} hold no class ids but {values}, and 255 means unlabelled; "
            f"if 255 is a class (black and white masks), list both under classes in {root / CLASS_FILE}"
        )

    def _check_noise(self, root: Path) -> None:
        total = sum(self.counts.values())
        scattered = [value for value, count in self.counts.items() if 2 * self.solid[value] < count]
        pixels = sum(self.counts[value] for value in scattered)
        ids = self.ids
        gapless = bool(ids) and ids[-1] - ids[0] == len(ids) - 1 and ids[0] <= 1
        enough = _SCATTERED_WITHOUT_GAP if gapless else _SCATTERED
        many = len(scattered) >= enough and total - pixels >= 0.2 * total
        several = 1.2 if not gapless and len(scattered) >= _SCATTERED_SPARSE else 4
        noisy = (many or len(scattered) >= _SCATTERED_PHOTO) and pixels >= several * len(scattered)
        between = [value for value in ids if value]
        # Smoothed thin lines: white, and nothing between it and black that lies in areas.
        soft = USUAL_IGNORE in self.counts and len(between) >= 2 and not gapless
        if noisy or (soft and 16 <= between[-1] < USUAL_IGNORE and set(between) <= set(scattered)):
            top = sorted(self.counts, key=lambda value: -self.counts[value])[:3]
            shares = ", ".join(f"{value} {self.counts[value] / total:.1%}" for value in top)
            raise DatasetError(
                f"the masks of {root} hold {len(self.counts)} values, {len(scattered)} of them scattered "
                f"over {pixels / total:.1%} of the pixels (the most frequent: {shares}), as JPEG, smooth "
                "scaling or quantised colours leave them; export the masks again, threshold them, scale "
                f"them with nearest neighbour, or name the class ids in {root / CLASS_FILE}"
            )

    def _check_white(self, root: Path) -> None:
        ids, share = self.ids, self.counts[USUAL_IGNORE] / sum(self.counts.values())
        cure = (
            f'list 255 as a class in {root / CLASS_FILE}, or name the classes there with "ignore": [255] '
            "if it is none"
        )
        if set(ids) <= {0}:
            raise DatasetError(self._only_white(root))
        if set(ids) <= {0, 1} and self.white is not None and self.ones is not None:
            raise DatasetError(
                f"mask {self.white} holds 0 and 255, and mask {self.ones} holds 0 and 1: the same class "
                f"seems to be written in two ways; save all of them with the same values, or {cure}"
            )
        usual = len(ids) >= 3 and ids[0] <= 1 and ids[-1] - ids[0] == len(ids) - 1 and share <= _VOID_SHARE
        wide = 2 * self.areas > self.counts[USUAL_IGNORE] and not usual
        if (wide or _is_grey_scale([*ids, USUAL_IGNORE])) and self.widest is not None:
            raise DatasetError(
                f"255 would mean unlabelled, but in the masks of {root} it covers {share:.1%} of the pixels, "
                f"and not as a thin border (see {self.widest[1]}); {cure}"
            )


def _in_blocks(pixels: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Where a pixel lies in a 2 x 2 block of one value: (H, W) -> (H, W)."""
    inside = np.zeros(pixels.shape, dtype=np.bool_)
    across = pixels[:, 1:] == pixels[:, :-1]
    blocks = across[1:] & across[:-1] & (pixels[1:, 1:] == pixels[:-1, 1:])
    for rows in (slice(None, -1), slice(1, None)):
        for cols in (slice(None, -1), slice(1, None)):
            inside[rows, cols] |= blocks
    return inside


def _area(white: npt.NDArray[np.bool_]) -> int:
    """How many pixels an opening leaves, whose side is a sixteenth of the shorter one, 3 to 9 pixels."""
    side = int(np.clip(min(white.shape) // 16, 3, 9))
    return int(
        cv2.morphologyEx(white.astype(np.uint8), cv2.MORPH_OPEN, np.ones((side, side), np.uint8)).sum()
    )


def _is_grey_scale(values: list[int]) -> bool:
    """Whether 0..255 is parted evenly, as in 0, 128, 255: a grey picture of classes."""
    step = 255 / (len(values) - 1)
    return step > 16 and all(abs(value - place * step) <= 1 for place, value in enumerate(values))
