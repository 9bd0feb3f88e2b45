"""Files that a command is told to write."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import typer

from retrieval.errors import ConfigError
from retrieval.store.files import atomic_write, storage_errors
from retrieval.store.paths import leads_nowhere, special_kind

#: The end of what :func:`write_json` writes.
_MARK = b'"made_by": "mycelia"'

#: Options that take a text, which may be empty; all others take names.
_TEXTS = ("--text",)


def check_names(arguments: Sequence[str]) -> None:
    """Raise BadParameter for an argument, or an option's value, without a character.

    As a path it would stand for the folder at hand; it comes from a variable of the shell that is not set.
    """
    for before, argument in zip(("", *arguments), arguments, strict=False):
        option, separator, value = argument.partition("=")
        is_empty = not argument or (option.startswith("--") and separator and not value)
        name = option if argument else before
        if is_empty and name not in _TEXTS:
            hint = name if name.startswith("-") else None
            raise typer.BadParameter("expected a name, got an empty text", param_hint=hint)


def _check_link(path: Path, option: str) -> None:
    if leads_nowhere(path):
        raise ConfigError(
            f"{path} is a link that leads nowhere or in a circle; delete it or choose another {option}"
        )


def check_place(path: Path, option: str, *, kind: str = "file") -> None:
    """Make the folder of ``path``; ConfigError where a folder has its name, StorageError for no place."""
    _check_link(path, option)
    if (special := special_kind(path)) is not None:
        raise ConfigError(f"{path} is {special}, but {option} names a {kind}; choose another name")
    if path.is_dir():
        raise ConfigError(f"{path} is a folder, but {option} names a {kind}; choose another name")
    with storage_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)


def check_file(path: Path, option: str) -> None:
    """:func:`check_place` for a file that is there only where a command of ours wrote it; else ConfigError.

    So that a slip of a name costs no photo and no recipe.
    """
    from segmentation.drawing.pictures import is_our_picture

    check_place(path, option)
    if path.exists() and path.stat().st_size and not (_is_our_json(path) or is_our_picture(path)):
        raise ConfigError(
            f"{path} is there, and no command of Mycelia wrote it; delete it or choose another {option}"
        )


def _is_our_json(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 100))
        return _MARK in file.read()


def check_folder(path: Path, option: str) -> None:
    """Raise ConfigError for what can be no folder of files, IndexExistsError for one inside an index."""
    from retrieval.store.staging import check_outside

    _check_link(path, option)
    if path.exists() and not path.is_dir():
        came = special_kind(path) or "a file"
        raise ConfigError(f"{path} is {came}, but {option} names a folder; choose another name")
    check_outside(path / "file")


def check_new_folder(out: Path, option: str = "--out") -> None:
    """Raise ConfigError for the folder at hand, which none that is made at once can take the place of."""
    with suppress(OSError):  # a path that is no place is another check's
        if out.is_dir() and out.samefile(Path()):
            raise ConfigError(f"{option} {out} is the folder at hand; name a new folder")


def write_json(path: Path, data: dict[str, Any]) -> None:
    """Write plain data as JSON; a reader sees the old file or the whole new one. Raises StorageError."""
    check_place(path, "--json")
    with atomic_write(path) as file:
        text = json.dumps({**data, "made_by": "mycelia"}, indent=2, ensure_ascii=False, allow_nan=False)
        file.write(
            text.encode(errors="backslashreplace") + b"\n"
        )  # of names that are no text, JSON's escapes
