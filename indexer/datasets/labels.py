"""What an image is labelled with, wherever that is written."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from indexer.datasets.keys import SourceKey
from indexer.datasets.masks import ColorCode, read_mask_file
from retrieval.classes import ClassMap
from retrieval.errors import MaskError


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
    colors: ColorCode | None = None  #: what the colours of an RGB mask mean; None: masks hold class ids

    @property
    def name(self) -> str:
        """The path."""
        return str(self.path)

    def read(self) -> npt.NDArray[np.int32]:
        """The class columns of the pixels, (H, W) int32, -1 unlabelled.

        Raises MaskError for a mask that is missing, unreadable, or holds an unknown id or colour.
        """
        where = f"mask {self.path}"
        pixels, _ = read_mask_file(self.path)
        if pixels.ndim == 2:
            return self.classes.columns(pixels, where=where)
        if self.colors is None:
            raise MaskError(
                f"{where} holds RGB colours, whose classes are unknown; "
                "save class ids as a palette or grey PNG, or give the colours in classes.json"
            )
        return self.colors.decode(pixels, where=where)

    def check(self) -> None:
        """Raise MaskError where there is no such file."""
        if not self.path.is_file():
            raise MaskError(f"mask {self.path} does not exist; add it, or remove its image")

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
        return MaskError(f"image {self.image} has no mask; add one with the same name, or remove the image")
