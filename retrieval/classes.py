"""The classes of a data set: ids in the mask files, columns in the label store."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from retrieval.errors import MaskError

#: Column that stands for "no label here".
UNLABELLED = -1


@dataclass(frozen=True)
class ClassInfo:
    """One class: its id in mask files, its name, its colour (red, green, blue; 0..255)."""

    id: int
    name: str
    color: tuple[int, int, int]


@dataclass(frozen=True)
class ClassMap:
    """All classes of a data set, in column order, and the mask ids that carry no label.

    Column ``c`` of a label array belongs to ``classes[c]``; class ids may be any distinct
    integers in 0..65535 and need not be contiguous.
    """

    classes: tuple[ClassInfo, ...]
    ignore: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.classes)

    @property
    def names(self) -> tuple[str, ...]:
        """Class names in column order."""
        return tuple(info.name for info in self.classes)

    @cached_property
    def ids(self) -> npt.NDArray[np.uint16]:
        """Class ids in column order, (C,) uint16."""
        return np.array([info.id for info in self.classes], dtype=np.uint16)

    @cached_property
    def mask_dtype(self) -> type[np.uint8] | type[np.uint16]:
        """The smallest dtype that holds every class id."""
        return np.uint8 if int(self.ids.max(initial=0)) <= 255 else np.uint16

    @cached_property
    def blank_id(self) -> int:
        """The id of pixels without a class: the first ignored one that masks can hold, else the largest free.

        Raises MaskError where masks of 8 bits have a class for each of their values.
        """
        most = int(np.iinfo(self.mask_dtype).max)
        fitting = [id for id in self.ignore if id <= most]
        taken = set(self.ids.tolist())
        blank = next(iter(fitting), next((id for id in range(most, -1, -1) if id not in taken), None))
        if blank is None:
            raise MaskError("all 256 ids of an 8 bit mask are classes, so that none is left for blank pixels")
        return blank

    @cached_property
    def _column_of_id(self) -> npt.NDArray[np.int32]:
        unknown = -2
        table = np.full(65536, unknown, dtype=np.int32)
        table[list(self.ignore)] = UNLABELLED
        table[self.ids] = np.arange(len(self), dtype=np.int32)
        return table

    def columns(self, mask: npt.NDArray[Any], *, where: str = "mask") -> npt.NDArray[np.int32]:
        """Class columns of a mask of class ids: (H, W) integers -> (H, W) int32, -1 unlabelled.

        Raises MaskError, naming ``where``, for an id that is neither a class nor ignored.
        """
        values = mask.astype(np.int64)
        if values.size and (values.min() < 0 or values.max() > 65535):
            raise MaskError(f"{where} holds class ids outside 0..65535; save it as 8 or 16 bit class ids")
        columns = self._column_of_id[values]
        if (columns == -2).any():
            unknown = np.unique(values[columns == -2])[:5].tolist()
            raise MaskError(
                f"{where} holds class id {', '.join(map(str, unknown))}, but the class map has "
                f"{self._describe_ids()}; add the class to classes.json or list the id under ignore"
            )
        return columns

    def _describe_ids(self) -> str:
        ids = self.ids.tolist()
        contiguous = ids == list(range(ids[0], ids[0] + len(ids))) if ids else False
        known = f"ids {ids[0]}..{ids[-1]}" if contiguous else f"ids {ids}"
        return known + (f" and ignores {list(self.ignore)}" if self.ignore else "")

    def to_json(self) -> dict[str, Any]:
        """Plain data for the manifest or ``classes.json``."""
        return {
            "classes": [{"id": c.id, "name": c.name, "color": list(c.color)} for c in self.classes],
            "ignore": list(self.ignore),
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> ClassMap:
        """The inverse of :meth:`to_json`."""
        classes = tuple(
            ClassInfo(
                int(c["id"]), str(c["name"]), (int(c["color"][0]), int(c["color"][1]), int(c["color"][2]))
            )
            for c in data["classes"]
        )
        return cls(classes, tuple(int(i) for i in data.get("ignore", ())))
