"""A sheet of a photo and the memory images that are most like it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageDraw

from indexer.images import read_image
from retrieval.errors import ImageError
from segmentation.classification.matches import Match
from segmentation.drawing.fonts import pillow_font
from segmentation.drawing.pictures import GROUND, INK, Color, Picture

#: Memory images side by side, and the sides in pixels of theirs and of the photo's place.
COLUMNS, TILE, LARGE = 4, 240, 520
_FAINT: Color = (160, 163, 168)
_GAP, _TEXT = 14, 17


def similarity_sheet(photo: Picture, title: str, matches: Sequence[Match]) -> Picture:
    """The photo large at the left, the memory images beside it, nearest first: (H, W, 3) uint8.

    ``photo`` is (H, W, 3) uint8; below each memory image stand its class and its similarity. One whose
    thumbnail and file are both gone is named only.
    """
    texts = "".join((title, *(m.image_id for m in matches), *(name for m in matches for name in m.classes)))
    font, line = pillow_font(texts, size=_TEXT), round(_TEXT * 1.5)
    columns = min(COLUMNS, max(1, len(matches)))
    rows = -(-len(matches) // columns)
    large = _fitted(photo, LARGE)
    cell = TILE + 2 * line + _GAP
    height = _GAP + max(large.shape[0] + line, rows * cell)
    start = LARGE + 3 * _GAP
    canvas = Image.new("RGB", (start + columns * (TILE + _GAP), height + _GAP), GROUND)
    draw = ImageDraw.Draw(canvas)
    canvas.paste(Image.fromarray(large), (_GAP + (LARGE - large.shape[1]) // 2, _GAP))
    caption = (_GAP + LARGE / 2, _GAP + large.shape[0] + line / 2)
    draw.text(caption, _shortened(title, font, LARGE), INK, font, "mm")
    for place, match in enumerate(matches):
        left = start + place % columns * (TILE + _GAP)
        top = _GAP + place // columns * cell
        picture, below = _memory_picture(match), top + TILE
        if picture is None:
            draw.rectangle((left, top, left + TILE - 1, top + TILE - 1), outline=_FAINT)
            draw.text((left + TILE / 2, top + TILE / 2), "not there any more", _FAINT, font, "mm")
        else:
            small = _fitted(picture, TILE)
            canvas.paste(Image.fromarray(small), (left + (TILE - small.shape[1]) // 2, top))
            below = top + small.shape[0]
        score = f"{match.similarity:.3f}"
        room = TILE - round(font.getlength(score)) - _GAP
        name = ", ".join(match.classes) or "unlabelled"
        middle = below + line / 2
        draw.text((left, middle), _shortened(name, font, room), INK, font, "lm")
        draw.text((left + TILE, middle), score, INK, font, "rm")
        draw.text((left, middle + line), _shortened(match.image_id, font, TILE), _FAINT, font, "lm")
    return np.array(canvas)


def _memory_picture(match: Match) -> Picture | None:
    """The thumbnail, else the image where it was; None where neither can be read."""
    for path in (match.thumbnail, match.image_path):
        if path:
            with suppress(ImageError):
                return read_image(path)
    return None


def _fitted(picture: Picture, side: int) -> Picture:
    """The picture, scaled to fit into a square of ``side`` pixels."""
    scale = side / max(picture.shape[:2])
    size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return cv2.resize(picture, size, interpolation=method).astype(np.uint8)


def _shortened(text: str, font: Any, width: float) -> str:
    """The text, its end left out where it is wider than ``width`` pixels."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}...") > width:
        text = text[:-1]
    return f"{text}..."
