"""COCO's panoptic PNGs: the colour of a pixel is the number of a segment, which the JSON gives a category.

Source: cocodataset/panopticapi, panopticapi/utils.py (rgb2id).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from indexer.datasets.keys import SourceKey
from indexer.datasets.masks import read_mask_file
from indexer.datasets.tools.entries import Label, listed, whole
from retrieval.classes import UNLABELLED
from retrieval.errors import MaskError


def segment_columns(
    annotation: Mapping[str, Any], columns: Mapping[Label, int]
) -> tuple[tuple[int, int], ...]:
    """(number of a segment, class column) of an annotation's segments; crowds are unlabelled (-1).

    Raises LookupError, TypeError or ValueError for an entry that makes no sense.
    """
    found = []
    for segment in listed(annotation["segments_info"]):
        number, category = whole(segment["id"]), whole(segment["category_id"])
        if not 0 < number < 1 << 24:
            raise ValueError(f"the segment {number} can be no colour; numbers are 1..16777215")
        if category not in columns:
            raise ValueError(f"its segment {number} has the category {category}, which the file lacks")
        found.append((number, UNLABELLED if segment.get("iscrowd") else columns[category]))
    return tuple(found)


@dataclass(frozen=True)
class Panoptic:
    """A panoptic PNG and the classes of its segments; black pixels are unlabelled."""

    path: Path
    where: str  #: the JSON file, and the image in it
    segments: tuple[tuple[int, int], ...]  #: (number, class column)

    @property
    def name(self) -> str:
        """The PNG."""
        return str(self.path)

    def read(self) -> npt.NDArray[np.int32]:
        """The class columns, (H, W) int32, -1 unlabelled.

        Raises MaskError for a PNG that is missing, has no colours, or holds a segment that the JSON lacks.
        """
        pixels, _ = read_mask_file(self.path)
        if pixels.ndim != 3:
            raise MaskError(f"mask {self.path} has no colours, but a panoptic mask is an RGB PNG")
        red, green, blue = np.moveaxis(pixels.astype(np.int32), 2, 0)
        numbers, places = np.unique(red + (green << 8) + (blue << 16), return_inverse=True)
        columns = {0: UNLABELLED, **dict(self.segments)}
        lost = [number for number in numbers.tolist() if number not in columns]
        if lost:
            raise MaskError(
                f"mask {self.path} holds the segment {lost[0]}, which {self.where} does not list; "
                "fetch the PNG and the JSON of one version"
            )
        known = np.array([columns[number] for number in numbers.tolist()], dtype=np.int32)
        return known[places.reshape(pixels.shape[:2])]

    def check(self) -> None:
        """Raise MaskError where there is no such file."""
        if not self.path.is_file():
            raise MaskError(f"mask {self.path} does not exist, but {self.where} names it")

    def key(self, known: SourceKey | None = None) -> SourceKey:
        """The PNG's content and the classes of its segments."""
        meaning = hashlib.sha256(repr(self.segments).encode()).hexdigest()
        return SourceKey.of_file(self.path, name=f"{self.path} {meaning}", known=known)
