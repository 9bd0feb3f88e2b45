"""A mask over its photo, with a legend; how sure a mask is, and where it is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from retrieval.classes import UNLABELLED, ClassMap
from retrieval.errors import MaskError
from segmentation.bands import bands
from segmentation.drawing.fonts import pillow_font
from segmentation.drawing.masks import IGNORED_COLOR, color_mask
from segmentation.drawing.pictures import GROUND, INK, Color, Picture

#: Names of classes that an overlay leaves unpainted: they mean "nothing in particular".
UNPAINTED = frozenset({"background", "unlabelled", "unlabeled", "void"})

WRONG: Color = (214, 45, 58)
RIGHT: Color = (62, 118, 178)  # red against blue: told apart by the colour-blind too
NO_TRUTH: Color = (128, 128, 128)


def blend(
    image: Picture,
    mask: npt.NDArray[Any],
    classes: ClassMap,
    *,
    alpha: float = 0.5,
    confidence: npt.NDArray[np.float32] | None = None,
    paint_background: bool = False,
) -> Picture:
    """The photo (H, W, 3) with its mask (H, W) laid over it, each region outlined in its colour.

    ``alpha`` is the strength of the colours, 0..1; with ``confidence`` (H, W) it fades where the
    mask is unsure. Classes such as "background" (:data:`UNPAINTED`) stay unpainted unless
    ``paint_background``. Raises MaskError where sizes differ.
    """
    picture = _blend(
        image, mask, classes, alpha=alpha, confidence=confidence, paint_background=paint_background
    )
    return np.ascontiguousarray(picture)


def _blend(
    image: Picture,
    mask: npt.NDArray[Any],
    classes: ClassMap,
    *,
    alpha: float,
    confidence: npt.NDArray[np.float32] | None,
    paint_background: bool,
) -> Picture:
    """:func:`blend`, as a part of a wider array."""
    if mask.shape != image.shape[:2]:
        raise MaskError(f"mask {mask.shape} and image {image.shape[:2]} (height, width) need the same size")
    unpainted = frozenset() if paint_background else UNPAINTED
    plain = [info.id for info in classes.classes if info.name.lower() in unpainted]
    thickness = max(1, round(min(mask.shape) / 500))
    # Regions go on past the photo's edge, so that no line runs along it.
    margin = thickness + 2
    drawn = np.zeros((mask.shape[0] + 2 * margin, mask.shape[1] + 2 * margin, 3), dtype=np.uint8)
    inside: Picture = drawn[margin:-margin, margin:-margin]
    for rows in bands(mask.shape):
        strength = np.where(np.isin(mask[rows], plain), 0.0, alpha).astype(np.float32)
        if confidence is not None:
            strength *= confidence[rows]
        weight = strength[:, :, None]
        colors = color_mask(mask[rows], classes).astype(np.float32)
        inside[rows] = np.rint(image[rows] * (1 - weight) + colors * weight)
    _outline(drawn, mask, classes, plain, thickness=thickness, margin=margin)
    return inside


def overlay(
    image: Picture,
    mask: npt.NDArray[Any],
    classes: ClassMap,
    *,
    alpha: float = 0.5,
    confidence: npt.NDArray[np.float32] | None = None,
    paint_background: bool = False,
) -> Picture:
    """:func:`blend` with a legend below: the classes present and their share of the pixels.

    The picture is as wide as the photo (at least 240 pixels) and higher by the legend.
    """
    painted = _blend(
        image, mask, classes, alpha=alpha, confidence=confidence, paint_background=paint_background
    )
    return with_legend(painted, mask, classes)


@dataclass(frozen=True)
class _Entry:
    """One class in a legend, laid out: text and swatch at (x, y), pixels."""

    text: str
    color: Color
    x: int
    y: int
    font: Any


def with_legend(picture: Picture, mask: npt.NDArray[Any], classes: ClassMap) -> Picture:
    """The picture with a legend below of the classes in the mask of ids, largest share first."""
    return above_legend(picture, legend(_shares(mask, classes), max(picture.shape[1], 240)))


def class_legend(classes: ClassMap, width: int, *, paint_background: bool = False) -> Picture:
    """A legend of all classes that overlays paint, (h, max(width, 240), 3): the same for every mask."""
    unpainted = frozenset() if paint_background else UNPAINTED
    shown = [(info.name, info.color) for info in classes.classes if info.name.lower() not in unpainted]
    return legend(shown, max(width, 240))


def legend(shown: Sequence[tuple[str, Color]], width: int) -> Picture:
    """Texts, each behind a swatch of its colour, in as many lines as they need: (h, width, 3)."""
    size = _font_size(width)
    pad, line = size // 2 + 2, round(size * 1.7)
    texts = [(text, color, pillow_font(text, size=size)) for text, color in shown]
    entries, bottom = _lay_out(texts, width=width, pad=pad, line=line)
    canvas = Image.new("RGB", (width, bottom + pad), GROUND)
    draw = ImageDraw.Draw(canvas)
    for entry in entries:
        box = (entry.x, entry.y + (line - size) // 2, entry.x + size, entry.y + (line + size) // 2)
        draw.rectangle(box, fill=entry.color, outline=INK)
        place = (entry.x + size + pad // 2, entry.y + line / 2)
        draw.text(place, entry.text, fill=INK, font=entry.font, anchor="lm")
    return np.array(canvas)


def above_legend(picture: Picture, legend: Picture) -> Picture:
    """A picture, no wider than the legend and centred, above it."""
    height, width = picture.shape[:2]
    canvas = np.empty((height + legend.shape[0], legend.shape[1], 3), dtype=np.uint8)
    canvas[:height], canvas[height:] = GROUND, legend
    left = (legend.shape[1] - width) // 2
    canvas[:height, left : left + width] = picture
    return canvas


def confidence_picture(confidence: npt.NDArray[np.float32]) -> Picture:
    """Confidence (H, W) in 0..1 as colours: dark violet 0, green, bright yellow 1."""
    levels = np.rint(np.clip(confidence, 0, 1) * 255).astype(np.uint8)
    colored = cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_VIRIDIS), cv2.COLOR_BGR2RGB)
    return colored.astype(np.uint8)


def error_picture(image: Picture, truth: npt.NDArray[np.int32], predicted: npt.NDArray[np.int32]) -> Picture:
    """Where class columns (H, W) differ from the truth: red wrong, blue right, grey without truth."""
    colors = np.where((truth == predicted)[:, :, None], RIGHT, WRONG)
    colors = np.where((truth == UNLABELLED)[:, :, None], NO_TRUTH, colors)
    grey = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)[:, :, None]
    return np.rint(0.35 * grey + 0.65 * colors).astype(np.uint8)


def _shares(mask: npt.NDArray[Any], classes: ClassMap) -> list[tuple[str, Color]]:
    """Text and colour of every class in the mask, largest first, and of what has none."""
    ids, counts = np.unique(mask, return_counts=True)
    share = dict(zip(ids.tolist(), (counts / max(mask.size, 1)).tolist(), strict=True))
    present = sorted((i for i in classes.classes if i.id in share), key=lambda info: -share[info.id])
    texts = [(f"{info.name} {_percent(share.pop(info.id))}", info.color) for info in present]
    return texts + ([(f"blank {_percent(sum(share.values()))}", IGNORED_COLOR)] if share else [])


def _percent(share: float) -> str:
    return "<1 %" if share < 0.01 else f"{100 * share:.0f} %"


def _lay_out(
    texts: Sequence[tuple[str, Color, Any]], *, width: int, pad: int, line: int
) -> tuple[list[_Entry], int]:
    """Entries in lines no wider than ``width`` where possible, and where the last line ends."""
    entries: list[_Entry] = []
    x, y = pad, pad // 2
    for text, color, font in texts:
        room = round(font.getlength(text)) + line + pad
        if x > pad and x + room > width:
            x, y = pad, y + line
        entries.append(_Entry(text, color, x, y, font))
        x += room
    return entries, y + line


def _font_size(width: int) -> int:
    return int(np.clip(width / 45, 13, 40))


def _outline(
    drawn: Picture,
    mask: npt.NDArray[Any],
    classes: ClassMap,
    plain: Sequence[int],
    *,
    thickness: int,
    margin: int,
) -> None:
    """Draw thin lines around the regions of each painted class, in a lighter tint of its colour.

    ``drawn`` is wider than the mask by the margin at each side.
    """
    wider = np.pad(mask, margin, mode="edge")
    present = set(np.unique(mask).tolist()) - set(plain)
    for info in classes.classes:
        if info.id in present:
            region = (wider == info.id).view(np.uint8)
            contours, _ = cv2.findContours(region, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
            tint = tuple((2 * channel + 255) // 3 for channel in info.color)
            cv2.drawContours(drawn, contours, -1, tint, thickness, cv2.LINE_AA)
