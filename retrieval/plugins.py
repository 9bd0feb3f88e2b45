"""What installed packages add: objects named by entry points, loaded when they are first asked for."""

from __future__ import annotations

from typing import TypeVar

from retrieval.errors import ConfigError

T = TypeVar("T")


def load_plugins(group: str, kind: type[T]) -> list[T]:
    """The objects of type ``kind`` that installed packages name in an entry point group, by name.

    Raises ConfigError, naming the entry point, for one that cannot be loaded or is something else.
    """
    from importlib.metadata import entry_points

    found = []
    for point in sorted(entry_points(group=group), key=lambda point: point.name):
        try:
            loaded = point.load()
        except Exception as error:  # a plug-in may fail in any way while it is imported
            raise ConfigError(
                f"the installed package that adds {point.name!r} to {group} cannot be loaded ({error}); "
                "repair or uninstall it"
            ) from error
        if not isinstance(loaded, kind):
            raise ConfigError(
                f"the entry point {point.name!r} of {group} should be a {kind.__name__}, "
                f"not {type(loaded).__name__}; repair or uninstall the package that adds it"
            )
        found.append(loaded)
    return found


def plugin_packages(group: str) -> list[str]:
    """Names of the installed distributions that add something to an entry point group; nothing is loaded."""
    from importlib.metadata import entry_points

    return sorted({point.dist.name for point in entry_points(group=group) if point.dist is not None})
