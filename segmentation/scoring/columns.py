"""The classes of a data set in the order of an index."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from indexer.datasets import Dataset
from retrieval.classes import UNLABELLED, ClassMap
from retrieval.errors import IndexMismatchError


def column_table(dataset: Dataset, classes: ClassMap) -> npt.NDArray[np.int32]:
    """The index's column for each of the data set's, matched by class id: (C + 1,) int32, last entry -1.

    The last entry serves the column -1 (unlabelled). Raises IndexMismatchError where names or ids differ.
    """
    ours = {info.id: info.name for info in classes.classes}
    theirs = {info.id: info.name for info in dataset.classes.classes}
    if ours != theirs:
        raise IndexMismatchError(
            f"the index was built for other classes than {dataset.name} has ({_difference(ours, theirs)}); "
            "evaluate on a data set with the same class ids and names, or build an index from this one"
        )
    column_of_id = {int(id): column for column, id in enumerate(classes.ids)}
    table = [column_of_id[info.id] for info in dataset.classes.classes]
    return np.array([*table, UNLABELLED], dtype=np.int32)


def _difference(ours: dict[int, str], theirs: dict[int, str]) -> str:
    for id in sorted(ours.keys() | theirs.keys()):
        if ours.get(id) != theirs.get(id):
            index, dataset = (repr(names[id]) if id in names else "no such class" for names in (ours, theirs))
            return f"id {id} is {index} in the index and {dataset} in the data set"
    return "none"
