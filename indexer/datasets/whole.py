"""Labels of images as a whole: one class or several, and no mask."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from indexer.datasets.keys import SourceKey
from indexer.datasets.labels import LabelSource
from indexer.datasets.masks import color_of_id
from retrieval.classes import ClassInfo, ClassMap
from retrieval.errors import DatasetError, MaskError, UnlabelledError

#: Class ids are 0..65535.
_MOST_CLASSES = 65536
#: A folder of this name, or a table's, is a split.
_SPLIT = re.compile(
    r"(?:(?:train(?:ing|val)?|val(?:id(?:ation)?)?|eval(?:uation)?|dev|holdout|test(?:ing)?)[\W_\d]*)"
    r"|fold[\W_]*\d+",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class ClassLabels:
    """The class of an image as a whole, or its classes."""

    columns: tuple[int, ...]  #: class columns, ascending, each once
    where: str  #: a table and a line in it, or a folder
    names: tuple[str, ...] = ()  #: the names of these classes; without them the key is of the columns

    @property
    def name(self) -> str:
        """Where the label stands."""
        return self.where

    def read(self) -> npt.NDArray[np.int32]:
        """Raise MaskError: there is no mask."""
        raise MaskError(
            f"expected a mask, but {self.where} labels the image as a whole; "
            "build with features.level=image, or give each image a mask"
        )

    def check(self) -> None:
        """Nothing: the label was read with the list of images."""

    def key(self, known: SourceKey | None = None) -> SourceKey:
        """A key of the names of the classes, so that it is not an older label's."""
        content = sorted(self.names) if self.names else list(self.columns)
        return SourceKey.of_bytes(self.name, json.dumps(content).encode())


def whole_columns(labels: LabelSource) -> tuple[int, ...]:
    """The class columns of an image as a whole, ascending: its own, or all that occur in its mask.

    Raises UnlabelledError where the image has no label at all, MaskError where its mask cannot be read.
    """
    if isinstance(labels, ClassLabels):
        columns = sorted(set(labels.columns))
    else:
        columns = [column for column in np.unique(labels.read()).tolist() if column >= 0]
    if not columns:
        raise UnlabelledError(
            f"expected at least one class of the image, but all of {labels.name} is unlabelled; "
            "label it or remove the image"
        )
    return tuple(columns)


def classes_of_names(names: Iterable[str], *, where: str) -> ClassMap:
    """Classes of these names, ids 0.. in natural order; DatasetError for more than ids can tell apart."""
    ordered = sorted(set(names), key=natural_key)
    if len(ordered) > _MOST_CLASSES:
        raise DatasetError(
            f"{where} has {len(ordered):,} classes, expected at most {_MOST_CLASSES:,}; "
            "check that labels are names of classes"
        )
    return ClassMap(tuple(ClassInfo(id, name, color_of_id(id)) for id, name in enumerate(ordered)))


def natural_key(name: str) -> tuple[tuple[str | int, ...], str]:
    """What to sort names by so that c2 comes before c10, whatever their case."""
    parts = re.split(r"([0-9]{1,18})", name.casefold())
    return tuple(int(part) if place % 2 else part for place, part in enumerate(parts)), name


def is_split_name(name: str) -> bool:
    """Whether a folder or a table (without its ending) of this name is a split: train, val2017, fold_1."""
    return _SPLIT.fullmatch(name) is not None
