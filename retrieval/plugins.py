"""What other installed packages add: objects that they name in an entry point group of ours."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import TypeVar

from retrieval.errors import ConfigError

T = TypeVar("T")


def entry_points_of(group: str, kind: type[T]) -> list[T]:
    """The objects that installed packages name in an entry point group, in order of their names there.

    Raises ConfigError for one that cannot be imported or is no ``kind``.
    """
    found: list[T] = []
    for point in sorted(entry_points(group=group), key=lambda point: point.name):
        where = f"the plug-in {point.name!r} of {group} ({point.value})"
        try:
            loaded = point.load()
        except Exception as error:  # another's module may raise anything while it is imported
            raise ConfigError(
                f"{where} cannot be loaded ({error}); repair or uninstall the package that brings it"
            ) from error
        if not isinstance(loaded, kind):
            raise ConfigError(
                f"{where} should be a {kind.__name__}, not {type(loaded).__name__}; "
                "repair or uninstall the package that brings it"
            )
        found.append(loaded)
    return found
