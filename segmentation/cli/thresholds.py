"""``CLASS=0.4``: class names and thresholds that a command is given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from retrieval.errors import ConfigError

if TYPE_CHECKING:
    from retrieval.classes import ClassMap


def parse_threshold(text: str, option: str) -> tuple[str, float]:
    """A class's name and its threshold in 0..1. Raises ConfigError for any other text."""
    name, _, value = text.rpartition("=")
    try:
        threshold = float(value)
    except ValueError:
        threshold = -1.0
    if not name or not 0 <= threshold <= 1:
        raise ConfigError(f"{option} {text}: expected a class and a share in 0..1, for example defect=0.4")
    return name, threshold


def class_columns(names: Sequence[str], classes: ClassMap, option: str) -> list[int]:
    """The columns of classes by name. Raises ConfigError for an unknown one."""
    for name in names:
        if name not in classes.names:
            known = ", ".join(classes.names)
            raise ConfigError(f"{option}: there is no class {name!r} in the index; its classes are {known}")
    return [classes.names.index(name) for name in names]
