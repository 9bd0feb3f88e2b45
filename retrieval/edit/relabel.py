"""Rename or merge the classes of an index."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from retrieval.classes import ClassInfo, ClassMap
from retrieval.edit.change import changing
from retrieval.errors import ConfigError, did_you_mean
from retrieval.store.lock import WAIT


@dataclass(frozen=True)
class RelabelReport:
    """What a relabelling did."""

    classes: ClassMap
    """The classes that there are now."""
    rewritten: bool
    """Whether labels of rows were written anew; names alone change none."""


def relabel_index(path: str | Path, names: Mapping[str, str], *, wait: float = WAIT) -> RelabelReport:
    """Give classes the names that ``names`` maps theirs to, all at once; those of one name become one class.

    A class keeps its id and colour; where several become one, those of the class that had the name before,
    or else of the first. Only labels are rewritten, and vectors are not read. All of it is one commit. Raises
    ConfigError for an unknown class or an empty name, or for a server where classes become one, and what
    :func:`retrieval.edit.change.changing` does.
    """
    with changing(path, wait=wait) as change:
        manifest = change.index.manifest
        classes, columns = renamed_classes(manifest.classes, names, where=path)
        recipe = _renamed_prior(manifest.recipe, names)
        moved = (columns != np.arange(len(columns))).any()
        change.index.relabel(classes, columns)
        change.index.manifest = replace(change.index.manifest, recipe=recipe)
        change.index.flush()
        return RelabelReport(classes, bool(moved))


def renamed_classes(
    classes: ClassMap, names: Mapping[str, str], *, where: str | Path
) -> tuple[ClassMap, npt.NDArray[np.int64]]:
    """The classes under their new names, and the column (C,) among them of each class that there was."""
    for name, new in names.items():
        if name not in classes.names:
            raise ConfigError(
                f"{where} has no class {name!r}{did_you_mean(name, classes.names) or ';'} its classes are "
                f"{', '.join(classes.names)}"
            )
        if not new.strip():
            raise ConfigError(f"the new name of the class {name!r} is empty; write OLD=NEW")
    merged: dict[str, ClassInfo] = {}
    for info in classes.classes:
        new = names.get(info.name, info.name)
        if new not in merged or info.name == new:
            merged[new] = replace(info, name=new)
    column_of = {name: column for column, name in enumerate(merged)}
    columns = [column_of[names.get(name, name)] for name in classes.names]
    return replace(classes, classes=tuple(merged.values())), np.array(columns, dtype=np.int64)


def _renamed_prior(recipe: dict[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """The recipe with new names in the class shares that it may state, which are added where they meet."""
    transfer = recipe.get("transfer") or {}
    prior = transfer.get("prior")
    if not isinstance(prior, dict):
        return recipe
    shares: dict[str, float] = {}
    for name, share in prior.items():
        new = names.get(name, name)
        shares[new] = shares.get(new, 0.0) + share
    return {**recipe, "transfer": {**transfer, "prior": shares}}
