"""Two class maps as one: joined by name, new classes after those that are there."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from retrieval.classes import ClassInfo, ClassMap
from retrieval.errors import ConfigError

#: Class ids are 0..65535.
_IDS = 65536


@dataclass(frozen=True)
class JoinedClasses:
    """Classes that hold those of two maps."""

    classes: ClassMap
    """Those of the first map in their columns, then those that only the second one has."""
    columns: npt.NDArray[np.int64]
    """(C,): which of them each class of the second map is."""
    added: tuple[str, ...]
    """Names that only the second map has."""


def join_classes(known: ClassMap, new: ClassMap, *, where: str, new_ids: bool = False) -> JoinedClasses:
    """The classes of ``known``, and those of ``new`` that it lacks; classes are the same by their names.

    A new class keeps its id, and with ``new_ids`` takes the next free one where another class has it. Raises
    ConfigError, naming the class and ``where`` it is, where it may not; and for a map that has a name twice.
    """
    for classes, owner in ((known, "the index"), (new, where)):
        twice = [name for name in classes.names if classes.names.count(name) > 1]
        if twice:
            raise ConfigError(
                f"{owner} has two classes called {twice[0]!r}, which cannot be told apart by name"
            )
    column_of = {name: column for column, name in enumerate(known.names)}
    owners = {info.id: f"called {info.name!r}" for info in known.classes}
    owners |= {id: "ignored" for id in known.ignore if id not in owners}
    added: list[ClassInfo] = []
    for info in new.classes:
        if info.name in column_of:
            continue
        if info.id in owners and not new_ids:
            raise ConfigError(
                f"the class {info.name!r} of {where} has the id {info.id}, which is {owners[info.id]} in the "
                "index, so a mask could mean either: rename the class on one side where both are the same "
                "(`mycelia index relabel`, classes.json), or give it a free id with --new-ids"
            )
        free = info if info.id not in owners else replace(info, id=_free_id(owners))
        owners[free.id] = f"called {free.name!r}"
        column_of[info.name] = len(known) + len(added)
        added.append(free)
    columns = np.array([column_of[name] for name in new.names], dtype=np.int64)
    joined = replace(known, classes=(*known.classes, *added)) if added else known
    return JoinedClasses(joined, columns, tuple(info.name for info in added))


def _free_id(taken: dict[int, str]) -> int:
    """The smallest id above those of the classes, or below where none is left above."""
    highest = max((id for id, owner in taken.items() if owner != "ignored"), default=-1)
    for id in (*range(highest + 1, _IDS), *range(max(highest, 0))):
        if id not in taken:
            return int(id)
    raise ConfigError(f"all {_IDS:,} class ids are taken; merge classes with `mycelia index relabel`")
