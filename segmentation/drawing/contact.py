"""A sheet of a data set's images with their masks over them, and the legend of all classes."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from indexer.datasets import Dataset, Sample
from indexer.datasets.survey import Survey, choose_evenly
from indexer.images import read_image
from retrieval.classes import UNLABELLED, ClassMap
from retrieval.errors import ImageError, MaskError
from segmentation.drawing.fonts import pillow_font
from segmentation.drawing.masks import color_columns
from segmentation.drawing.overlays import UNPAINTED
from segmentation.drawing.pictures import GROUND, INK, Color, Picture

#: Images on a sheet, and the width of a sheet in pixels.
SHOWN, WIDTH = 12, 1600
#: Strength of a mask's colours over its image, 0..1.
ALPHA = 0.55
#: Words below an image whose mask cannot be shown.
_FAINT: Color = (160, 163, 168)
_GAP, _TEXT = 12, 17
_NO_CLASSES = ClassMap(())


def contact_sheet(dataset: Dataset, found: Survey, *, count: int = SHOWN) -> Picture:
    """About ``count`` images, evenly chosen, masks in colour over them, above a legend: (H, 1600, 3) uint8.

    A class that has most of the pixels and is the first (or is called background) stays unpainted, so that
    the others can be seen; a mask that cannot be read leaves its image as it is, and the caption says so.
    """
    samples = choose_evenly(dataset.samples, count)
    columns = _columns(found, len(samples))
    width = (WIDTH - _GAP * (columns + 1)) // columns
    tiles = [(item.id, *_tile(item, dataset, found, width)) for item in samples]
    rows = [tiles[start : start + columns] for start in range(0, len(tiles), columns)]
    texts = (found.name, *(sample.id for sample in samples), *(item.name for item in found.classes))
    font = pillow_font("".join(texts), size=_TEXT)
    line = round(_TEXT * 1.7)
    heights = [max(picture.shape[0] for _, picture, _ in row) + line for row in rows]
    entries, below = _legend(found, font, line)
    top = line + _GAP
    canvas = Image.new("RGB", (WIDTH, top + sum(heights) + _GAP * len(rows) + below + _GAP), GROUND)
    draw = ImageDraw.Draw(canvas)
    draw.text((_GAP, top / 2), _shorten(_title(found, len(samples)), font, WIDTH), INK, font, "lm")
    for row, height in zip(rows, heights, strict=True):
        for place, (name, picture, note) in enumerate(row):
            left = _GAP + place * (width + _GAP)
            canvas.paste(Image.fromarray(picture), (left + (width - picture.shape[1]) // 2, top))
            text = _shorten(f"{name}{note}", font, width)
            draw.text((left, top + picture.shape[0] + line / 2), text, _FAINT if note else INK, font, "lm")
        top += height + _GAP
    for x, y, text, color in entries:
        box = (x, top + y + (line - _TEXT) // 2, x + _TEXT, top + y + (line + _TEXT) // 2)
        if color is None:
            draw.rectangle(box, outline=_FAINT)
        else:
            draw.rectangle(box, fill=color, outline=INK)
        draw.text((x + _TEXT + 8, top + y + line / 2), text, INK, font, "lm")
    return np.array(canvas)


def _columns(found: Survey, count: int) -> int:
    """Images side by side: few of wide ones, so that what is thin in them can be seen."""
    aspect = found.shapes.aspects[1]
    wanted = 2 if aspect > 2.5 else 3 if aspect > 1.6 else 4 if aspect > 0.9 else 6
    return max(1, min(wanted, count))


def _plain_column(found: Survey) -> int | None:
    """The class that stays unpainted: one called background, or the first where it has nearly all pixels."""
    for column, item in enumerate(found.classes):
        if item.name.lower() in UNPAINTED:
            return column
    return 0 if found.named and found.classes and found.classes[0].share > 0.8 else None


def _tile(sample: Sample, dataset: Dataset, found: Survey, width: int) -> tuple[Picture, str]:
    """An image with its mask, ``width`` wide and at most 1.2 times as high, and what is to be said of it."""
    try:
        image = read_image(sample.image)
    except ImageError:
        return np.full((width * 3 // 4, width, 3), 48, dtype=np.uint8), ": cannot be read"
    note, columns = "", None
    try:
        columns = sample.labels.read()
        if columns.shape != image.shape[:2]:
            note, columns = ": mask of another size", None
    except MaskError:
        note = ": no mask that can be read"
        with suppress(MaskError):
            sample.labels.check()
            note = ": mask is refused"
    scale = min(width / image.shape[1], 1.2 * width / image.shape[0])
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    if columns is None or not len(dataset.classes):
        return _resized(image, size), note
    # Painted at the image's own size, then made smaller by areas: a line of two pixels stays visible.
    return _resized(_paint(image, columns, dataset, found, size), size), note


def _paint(
    image: Picture, columns: npt.NDArray[np.int32], dataset: Dataset, found: Survey, size: tuple[int, int]
) -> Picture:
    plain = _plain_column(found)
    strength = np.where(columns == (plain if plain is not None else -2), 0.0, ALPHA).astype(np.float32)
    if plain is not None:  # small things are widened until they can be seen on the sheet
        reach = max(1, image.shape[1] // max(size[0], 1))
        small = (columns != plain) & (columns != UNLABELLED)
        if small.mean() < 0.02:
            columns = _widened(columns, small, reach)
            strength = np.where(columns == plain, 0.0, 0.9).astype(np.float32)
    colors = color_columns(columns, dataset.classes).astype(np.float32)
    weight = strength[:, :, None]
    return np.rint(image * (1 - weight) + colors * weight).astype(np.uint8)


def _widened(
    columns: npt.NDArray[np.int32], small: npt.NDArray[np.bool_], reach: int
) -> npt.NDArray[np.int32]:
    """Class columns with the pixels of ``small`` spread by ``reach`` pixels over their neighbours."""
    kernel = np.ones((2 * reach + 1, 2 * reach + 1), dtype=np.uint8)
    # Columns of 16 bits: what dilation takes; the larger column wins where two meet.
    spread = cv2.dilate(np.where(small, columns + 1, 0).astype(np.uint16), kernel).astype(np.int32)
    widened: npt.NDArray[np.int32] = np.where(small | (spread == 0), columns, spread - 1).astype(np.int32)
    return widened


def _resized(picture: Picture, size: tuple[int, int]) -> Picture:
    method = cv2.INTER_AREA if size[0] < picture.shape[1] else cv2.INTER_NEAREST
    return cv2.resize(picture, size, interpolation=method).astype(np.uint8)


def _title(found: Survey, shown: int) -> str:
    split = f", split {found.split}" if found.split else ""
    return f"{found.name}{split}: {shown} of {found.images:,} images, masks over them"


def _legend(found: Survey, font: Any, line: int) -> tuple[list[tuple[int, int, str, Color | None]], int]:
    """(x, y, text, colour) of every class that occurs, largest share first, and the height they take."""
    plain = _plain_column(found)
    listed = sorted(enumerate(found.classes), key=lambda pair: -pair[1].share)
    texts: list[tuple[str, Color | None]] = [
        (
            f"{item.name} {_percent(item.share)}{' (not painted)' if place == plain else ''}",
            None if place == plain else item.color,
        )
        for place, item in listed
        if item.images
    ]
    if found.unlabelled > 0:
        pale: tuple[int, ...] = tuple(color_columns(np.array([[UNLABELLED]]), _NO_CLASSES)[0, 0].tolist())
        texts.append((f"unlabelled {_percent(found.unlabelled)}", (pale[0], pale[1], pale[2])))
    entries: list[tuple[int, int, str, Color | None]] = []
    x, y = _GAP, 0
    for text, color in texts[:60]:
        room = round(font.getlength(text)) + _TEXT + 8 + 2 * _GAP
        if x > _GAP and x + room > WIDTH:
            x, y = _GAP, y + line
        entries.append((x, y, text, color))
        x += room
    return entries, y + line


def _percent(share: float) -> str:
    if share < 0.1:
        return f"{100 * share:.2g} %"
    return f"{100 * share:.1f} %" if 0.99 < share < 1 else f"{100 * share:.0f} %"


def _shorten(text: str, font: Any, width: int) -> str:
    """The text, its middle left out where it is wider than ``width`` pixels."""
    if font.getlength(text) <= width:
        return text
    keep = max(4, int(len(text) * width / font.getlength(text)) - 4)
    return f"{text[: keep // 2]}...{text[len(text) - (keep - keep // 2) :]}"
