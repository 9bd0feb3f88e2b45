"""What a labelling tool's file says of an image, drawn into class columns when it is read."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from indexer.datasets.keys import SourceKey
from indexer.datasets.tools.fill import Patch, fill_polygon
from indexer.images.decode import read_shape
from retrieval.classes import UNLABELLED
from retrieval.errors import DataError, ImageError, MaskError, did_you_mean

#: What a format calls a class: its name or its number.
Label = str | int

#: No length or place in an image is larger.
_MOST = 1e9

#: What wrong types and missing keys raise; turned into a sentence that names the place.
FAULTS = (LookupError, TypeError, ValueError, AttributeError, OverflowError, RecursionError)


class Canvas:
    """The class columns of one image while shapes are drawn on it; later ones cover earlier ones."""

    def __init__(
        self, size: tuple[int, int], columns: Mapping[Label, int], *, ground: int, where: str
    ) -> None:
        self.size = size  #: (height, width)
        self.labels = np.full(size, ground, dtype=np.int32)
        self.where = where  #: the file and what is drawn of it at the moment
        self._columns = columns

    def each(self, shapes: Iterable[Any], what: str) -> Iterator[Any]:
        """The shapes one by one; errors name the one at hand by ``what`` and its number from 1."""
        outer = self.where
        for number, shape in enumerate(shapes, start=1):
            self.where = f"{outer}, {what} {number}"
            yield shape
        self.where = outer

    def column(self, label: Any) -> int:
        """The class column of a label; raises MaskError for one that is unknown."""
        if isinstance(label, bool) or not isinstance(label, str | int) or label not in self._columns:
            names = [str(known) for known in self._columns]
            raise MaskError(
                f"{self.where} has the label {label!r}, which is no class of the data set"
                f"{did_you_mean(str(label), names)}"
            )
        return self._columns[label]

    def points(self, values: Any) -> npt.NDArray[np.float64]:
        """Corners (N, 2) as (x, y) in pixels: pairs of finite numbers, no further out than a whole image.

        Raises MaskError otherwise.
        """
        flat = [number for pair in values for number in _pair(pair)]
        points = np.array(flat, dtype=np.float64).reshape(-1, 2)
        far = np.array(self.size[::-1], dtype=np.float64)
        if (points < -far).any() or (points > 2 * far).any():
            height, width = self.size
            raise MaskError(
                f"{self.where} has corners far outside the image, which is {height} high and {width} wide; "
                "check that it was drawn on this image, and in which units"
            )
        return points

    def polygon(self, points: npt.NDArray[np.float64], column: int) -> None:
        """Draw a closed outline (N, 2) of (x, y); fewer than three corners have no inside."""
        if len(points) > 2:
            self.paint(fill_polygon(points, self.size), column)

    def paint(self, patch: Patch, column: int) -> None:
        """Give the pixels of a patch to a column; what lies outside the image is cut off."""
        height, width = patch.inside.shape
        top, left = max(patch.top, 0), max(patch.left, 0)
        bottom, right = min(patch.top + height, self.size[0]), min(patch.left + width, self.size[1])
        if top >= bottom or left >= right:
            return
        inside = patch.inside[top - patch.top : bottom - patch.top, left - patch.left : right - patch.left]
        self.labels[top:bottom, left:right][inside] = column


def _pair(values: Any) -> tuple[float, float]:
    x, y = values
    return number(x), number(y)


def number(value: Any) -> float:
    """A number as it is; raises ValueError for anything else, for true, texts and what is not finite, too."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= _MOST:
        raise ValueError(f"expected a number, found {_shown(value)}")
    return float(value)


def whole(value: Any) -> int:
    """A whole number as it is; raises ValueError for anything else."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"expected a whole number, found {_shown(value)}")
    return value


def listed(value: Any) -> list[Any]:
    """A list as it is; raises ValueError for anything else."""
    if not isinstance(value, list):
        raise ValueError(f"expected a list, found {_shown(value)}")
    return value


def named(value: Any) -> str:
    """A text that is not empty; raises ValueError for anything else."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"expected a name, found {_shown(value)}")
    return value


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def fault(error: type[DataError], where: str, problem: Exception) -> DataError:
    """An error that says what is wrong at a place whose content has another form than expected."""
    if isinstance(problem, KeyError):
        reason = f"it has no {problem.args[0]!r}"
    else:
        reason = str(problem) or type(problem).__name__
    return error(f"{where} cannot be understood: {reason}; export it again or mend it there")


@dataclass(frozen=True)
class Entry:
    """The labels of one image as a tool wrote them, drawn on an image of its size when they are read."""

    image: Path
    file: Path  #: where it is written
    entry: str  #: what the file calls it; empty where the whole file is of this image
    content: str  #: JSON of all that is drawn, and perhaps the "height" and "width" it was drawn at
    draw: Callable[[Any, Canvas], None]  #: draws the parsed content
    columns: tuple[tuple[Label, int], ...]  #: the class column of every label
    ground: int = UNLABELLED  #: the column of pixels on which nothing is drawn

    @property
    def name(self) -> str:
        """The file, and the entry in it."""
        return f"{self.file}, {self.entry}" if self.entry else str(self.file)

    def read(self) -> npt.NDArray[np.int32]:
        """The class columns, (H, W) int32, -1 unlabelled.

        Raises MaskError where the entry makes no sense, names an unknown class, or was drawn at another
        size than the image's, and where the image, which says the size, cannot be read.
        """
        try:
            size = read_shape(self.image)
        except ImageError as error:
            raise MaskError(str(error)) from error
        data = json.loads(self.content)
        canvas = Canvas(size, dict(self.columns), ground=self.ground, where=self.name)
        try:
            self._check_size(data, size)
            self.draw(data, canvas)
        except FAULTS as problem:
            raise fault(MaskError, canvas.where, problem) from problem
        return canvas.labels

    def _check_size(self, data: Any, size: tuple[int, int]) -> None:
        stated = (data.get("height"), data.get("width"))
        if None in stated or (int(stated[0]), int(stated[1])) == size:
            return
        raise MaskError(
            f"{self.name} was drawn at a height of {stated[0]} and a width of {stated[1]}, but its image "
            f"{self.image} is {size[0]} high and {size[1]} wide (EXIF orientation applied); "
            "label the image as it is"
        )

    def check(self) -> None:
        """Nothing: the entry was read with the list of images."""

    def key(self, known: SourceKey | None = None) -> SourceKey:
        """A key of this entry alone, whatever else the file holds."""
        return SourceKey.of_bytes(self.name, self.content.encode())


def content_of(shapes: Any, *, height: Any = None, width: Any = None) -> str:
    """The content of an :class:`Entry`, keys sorted, so that equal labels are equal texts."""
    return json.dumps({"height": height, "width": width, "shapes": shapes}, sort_keys=True)
