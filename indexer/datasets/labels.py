"""What an image is labelled with, wherever that is written."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from indexer.datasets.keys import SourceKey
from indexer.datasets.masks import Color, ColorCode, read_mask_file
from indexer.datasets.palettes import palette_columns
from indexer.images import read_image
from retrieval.classes import ClassMap
from retrieval.errors import ImageError, MaskError

#: What else can be done about images without a mask; ``load_dataset(unmasked=...)`` and the command's option.
_UNMASKED = "say what images without a mask are with --unmasked background or skip"


class LabelSource(Protocol):
    """The labels of one image: a mask file, polygons, a class of the whole image."""

    @property
    def name(self) -> str:
        """What messages call it: a path, or a path and a place in it."""

    def read(self) -> npt.NDArray[np.int32]:
        """Class columns, (H, W) int32 of the upright image, -1 unlabelled.

        Raises MaskError where the labels are missing, unreadable, or hold an unknown class.
        """

    def check(self) -> None:
        """Look, without decoding, whether the labels are there; raises MaskError where they are not."""

    def key(self, known: SourceKey | None = None) -> SourceKey:
        """All that :meth:`read` depends on but the classes; never raises.

        ``known`` is a key of the same source from earlier, which may spare reading the content.
        """


@dataclass(frozen=True)
class MaskFile:
    """A mask in an image file, of class ids or of colours."""

    path: Path
    classes: ClassMap
    colors: ColorCode | None = None  #: what colours in masks mean; None: masks hold class ids
    hint: str = ""  #: what to do about an id or colour that is no class's

    @property
    def name(self) -> str:
        """The path."""
        return str(self.path)

    def read(self) -> npt.NDArray[np.int32]:
        """The class columns of the pixels, (H, W) int32, -1 unlabelled.

        Raises MaskError for a mask that is missing, unreadable, or holds an unknown id or colour.
        """
        pixels, palette = read_mask_file(self.path)
        try:
            return self._decode(pixels, palette)
        except MaskError as error:
            if not self.hint:
                raise
            raise MaskError(f"{error}; {self.hint}") from error

    def _decode(self, pixels: npt.NDArray[Any], palette: tuple[Color, ...]) -> npt.NDArray[np.int32]:
        where = f"mask {self.path}"
        if pixels.ndim == 2:
            if self.colors is None:
                return self.classes.columns(pixels, where=where)
            return palette_columns(pixels, palette, self.classes, self.colors, where=where)
        if self.colors is None:
            raise MaskError(
                f"{where} holds RGB colours, whose classes are unknown; "
                "save class ids as a palette or grey PNG, or give the colours in classes.json"
            )
        return self.colors.decode(pixels, where=where)

    def check(self) -> None:
        """Raise MaskError where there is no such file."""
        if not self.path.is_file():
            raise MaskError(f"mask {self.path} does not exist; add it, remove its image, or {_UNMASKED}")

    def key(self, known: SourceKey | None = None) -> SourceKey:
        """The file's content and what its colours mean."""
        meaning = "" if self.colors is None else hashlib.sha256(repr(self.colors).encode()).hexdigest()
        return SourceKey.of_file(self.path, name=f"{self.path} {meaning}".rstrip(), known=known)


@dataclass(frozen=True)
class NoLabels:
    """Stands for the labels of an image that has none."""

    image: Path

    @property
    def name(self) -> str:
        """Says that there are none."""
        return f"no labels of {self.image}"

    def read(self) -> npt.NDArray[np.int32]:
        """Raise MaskError."""
        raise self._missing()

    def check(self) -> None:
        """Raise MaskError."""
        raise self._missing()

    def key(self, known: SourceKey | None = None) -> SourceKey:
        """A key without content."""
        return SourceKey(self.name, "")

    def _missing(self) -> MaskError:
        return MaskError(
            f"image {self.image} has no mask; add one with the same name, remove the image, or {_UNMASKED}"
        )


@dataclass(frozen=True)
class Background:
    """The labels of an image without a mask that shows the background alone."""

    image: Path
    classes: ClassMap
    id: int = 0  #: the background's class

    @property
    def name(self) -> str:
        """Says what stands for the mask."""
        return f"background of {self.image}"

    def read(self) -> npt.NDArray[np.int32]:
        """The background's column in every pixel, (H, W) int32.

        Raises MaskError where the image, which says the size, cannot be read.
        """
        try:
            height, width = read_image(self.image).shape[:2]
        except ImageError as error:
            raise MaskError(str(error)) from error
        return self.classes.columns(np.full((height, width), self.id, dtype=np.int32), where=self.name)

    def check(self) -> None:
        """Nothing: the image is looked for as an image."""

    def key(self, known: SourceKey | None = None) -> SourceKey:
        """A key of the class; the image has one of its own."""
        return SourceKey.of_bytes(self.name, str(self.id).encode())
