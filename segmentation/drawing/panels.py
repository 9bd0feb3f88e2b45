"""Pictures side by side."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw

from segmentation.drawing.fonts import pillow_font
from segmentation.drawing.pictures import GROUND, INK, Picture


def panels(pictures: Sequence[tuple[str, Picture]], *, height: int = 360) -> Picture:
    """Pictures side by side at one height (pixels), each under its caption."""
    size, gap = max(13, height // 22), max(4, height // 60)
    font, head = pillow_font("".join(caption for caption, _ in pictures), size=size), round(size * 1.8)
    scaled = [(caption, fit_height(picture, height)) for caption, picture in pictures]
    widths = [max(part.shape[1], round(font.getlength(caption)) + 2 * gap) for caption, part in scaled]
    canvas = Image.new("RGB", (sum(widths) + gap * (len(widths) + 1), head + height + gap), GROUND)
    draw, left = ImageDraw.Draw(canvas), gap
    for (caption, part), width in zip(scaled, widths, strict=True):
        draw.text((left + width / 2, head / 2), caption, fill=INK, font=font, anchor="mm")
        canvas.paste(Image.fromarray(part), (left + (width - part.shape[1]) // 2, head))
        left += width + gap
    return np.array(canvas)


def fit_height(picture: Picture, height: int) -> Picture:
    """The picture scaled to a height in pixels; enlarged without smoothing, so that pixels stay visible."""
    width = max(1, round(picture.shape[1] * height / picture.shape[0]))
    method = cv2.INTER_AREA if height < picture.shape[0] else cv2.INTER_NEAREST
    return cv2.resize(picture, (width, height), interpolation=method).astype(np.uint8)
