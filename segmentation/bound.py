"""What of a result needs the open index it was found in, and stays behind when the result is pickled."""

from __future__ import annotations

from typing import Any, NoReturn

from retrieval.errors import IndexClosedError


class BoundToIndex:
    """Looks things up in an open index, which no other process has: a copy of it knows nothing more."""

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __getattr__(self, name: str) -> NoReturn:
        """Called for what is not there: everything, in a copy. Raises IndexClosedError."""
        if name.startswith("__"):
            raise AttributeError(name)
        raise IndexClosedError(
            "a result that was pickled has left its index behind; look up its votes and matches before that, "
            "in the process that has the index open"
        )
