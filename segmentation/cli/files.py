"""Files that a command is told to write."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from retrieval.errors import ConfigError
from retrieval.store.files import atomic_write, storage_errors


def check_place(path: Path, option: str, *, kind: str = "file") -> None:
    """Make the folder of ``path``; ConfigError where a folder has its name, StorageError for no place."""
    if path.is_dir():
        raise ConfigError(f"{path} is a folder, but {option} names a {kind}; choose another name")
    with storage_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)


def write_json(path: Path, data: dict[str, Any]) -> None:
    """Write plain data as JSON; a reader sees the old file or the whole new one. Raises StorageError."""
    check_place(path, "--json")
    with atomic_write(path) as file:
        text = json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False)
        file.write(
            text.encode(errors="backslashreplace") + b"\n"
        )  # of names that are no text, JSON's escapes
