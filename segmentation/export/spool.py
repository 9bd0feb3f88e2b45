"""Records on disk, a line each, so that a run that is stopped loses none."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from retrieval.errors import ConfigError
from retrieval.store.files import atomic_write, storage_errors


class Spool:
    """A file of records, one JSON line each after a first line that says what made them."""

    def __init__(self, path: Path, made_by: dict[str, Any], *, replaced: frozenset[str]) -> None:
        """Open ``path`` for more records; those that are there stay, but for the names in ``replaced``.

        Raises ConfigError where it was made by something else, StorageError.
        """
        self.path = path
        kept = [line for line in self._left(made_by) if json.loads(line)["name"] not in replaced]
        with atomic_write(path) as file:
            file.write(_line(made_by))
            file.writelines(kept)
        self._count = len(kept)
        with storage_errors(path.parent):
            self._file = path.open("ab")

    def append(self, name: str, record: Any) -> None:
        """Add the record of a photo; when this returns, a killed process no longer loses it."""
        with storage_errors(self.path.parent):
            self._file.write(_line({"name": name, "record": record}))
            self._file.flush()
        self._count += 1

    def records(self) -> Iterator[Any]:
        """All records, in the order in which they were added."""
        with self.path.open("rb") as file:
            next(file)
            for line in file:
                yield json.loads(line)["record"]

    def close(self) -> None:
        """Close the file, which stays where it holds a record."""
        self._file.close()
        if not self._count:
            self.path.unlink(missing_ok=True)

    def remove(self) -> None:
        """Close the file and delete it."""
        self._file.close()
        self.path.unlink(missing_ok=True)

    def _left(self, made_by: dict[str, Any]) -> list[bytes]:
        """The whole lines of records that a stopped run left."""
        if not self.path.exists():
            return []
        with storage_errors(self.path.parent):
            lines = self.path.read_bytes().splitlines(keepends=True)
        whole = [line for line in lines if line.endswith(b"\n")]
        if not whole or whole[0] != _line(made_by):
            raise ConfigError(
                f"{self.path} is what a stopped run left, of other classes or another --tolerance; "
                "delete it, or choose another --out"
            )
        return whole[1:]


def spool_of(path: Path) -> Path:
    """Where the records are of which the file ``path`` is made in the end."""
    return path.with_name(f"{path.name}.lines")


def recorded_names(path: Path) -> set[str]:
    """The names of the photos whose records are whole in a file of them; none where there is no file."""
    if not path.is_file():
        return set()
    lines = path.read_bytes().splitlines(keepends=True)[1:]
    return {json.loads(line)["name"] for line in lines if line.endswith(b"\n")}


def _line(data: dict[str, Any]) -> bytes:
    return json.dumps(data, separators=(",", ":")).encode("ascii") + b"\n"
