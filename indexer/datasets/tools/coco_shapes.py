"""The outlines and run lengths of COCO, drawn as pycocotools draws them.

Source: ppwwyyxx/cocoapi, common/maskApi.c (rleFrPoly, rleFrString).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from indexer.datasets.tools.entries import Canvas, listed, number, whole
from indexer.datasets.tools.fill import Patch, fill_runs
from retrieval.classes import UNLABELLED
from retrieval.errors import MaskError, MissingExtraError


def draw_annotations(data: Any, canvas: Canvas) -> None:
    """Draw the annotations of an image: crowds first, without a label, then the others in their order."""
    shapes = listed(data["shapes"])
    for crowd in (True, False):
        for shape in canvas.each(shapes, "annotation"):
            if bool(shape.get("iscrowd")) is crowd:
                column = canvas.column(shape["category_id"])
                inside = _region(shape.get("segmentation"), canvas)
                canvas.paint(Patch(0, 0, inside), UNLABELLED if crowd else column)


def _region(segmentation: Any, canvas: Canvas) -> npt.NDArray[np.bool_]:
    if not segmentation:
        raise MaskError(
            f"{canvas.where} has no segmentation, only a box or nothing; draw its outline, or remove it"
        )
    if isinstance(segmentation, dict):
        return _runs(segmentation, canvas)
    return _polygons(listed(segmentation), canvas)


def _polygons(rings: list[Any], canvas: Canvas) -> npt.NDArray[np.bool_]:
    """The union of outlines [x, y, x, y, ...]; fewer than three corners have no inside."""
    try:
        from pycocotools import mask as coco_mask
    except ImportError:
        raise MissingExtraError(
            "COCO's polygons need the package pycocotools; install it with: pip install 'mycelia[coco]'"
        ) from None
    outlines = []
    for ring in rings:
        values = [number(value) for value in listed(ring)]
        points = canvas.points(zip(values[::2], values[1::2], strict=True))
        if len(points) > 2:
            outlines.append(points.ravel().tolist())
    if not outlines:
        return np.zeros(canvas.size, dtype=np.bool_)
    merged = coco_mask.merge(coco_mask.frPyObjects(outlines, *canvas.size))
    return fill_runs(parse_counts(merged["counts"].decode()), canvas.size, by_column=True)


def _runs(segmentation: dict[str, Any], canvas: Canvas) -> npt.NDArray[np.bool_]:
    """Run lengths down the columns, as a list or as COCO's text."""
    size, counts = segmentation["size"], segmentation["counts"]
    if (whole(size[0]), whole(size[1])) != canvas.size or len(size) != 2:
        raise ValueError(f"its size {size} is not that of the image, {list(canvas.size)} (height, width)")
    lengths = parse_counts(counts) if isinstance(counts, str) else listed(counts)
    return fill_runs(lengths, canvas.size, by_column=True)


def parse_counts(text: str) -> list[int]:
    """The run lengths in COCO's text, one after another in groups of five bits from the lowest on.

    From the fourth on each is the difference to the one two before. Raises ValueError for a text that is cut
    off or has other characters.
    """
    counts: list[int] = []
    value = shift = 0
    for character in text:
        group = ord(character) - 48
        if not 0 <= group < 64 or shift > 60:
            raise ValueError(f"its run lengths hold the character {character!r}, where none fits")
        value |= (group & 31) << shift
        shift += 5
        if group & 32:
            continue
        if group & 16:
            value -= 1 << shift
        counts.append(value + counts[-2] if len(counts) > 2 else value)
        value = shift = 0
    if shift:
        raise ValueError("its run lengths are cut off")
    return counts
