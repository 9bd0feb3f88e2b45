"""Change a setting in the recipe that an index states."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from retrieval.edit.change import changing
from retrieval.store.lock import WAIT


def change_section(path: str | Path, section: str, values: Mapping[str, Any], *, wait: float = WAIT) -> None:
    """Give settings of one section of an index's recipe other values, in one commit; rows stay as they are.

    The section has to decide no stored row (``transfer``); values are plain data, and not checked here.
    Raises what :func:`retrieval.edit.change.changing` does.
    """
    with changing(path, wait=wait) as change:
        manifest = change.index.manifest
        changed = {**(manifest.recipe.get(section) or {}), **values}
        change.index.manifest = replace(manifest, recipe={**manifest.recipe, section: changed})
        change.index.flush()
