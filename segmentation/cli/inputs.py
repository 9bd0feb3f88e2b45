"""What people give a command to look at, by what an index holds: photos, texts or recordings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from indexer.kinds import NOUNS
from retrieval.errors import AudioError, ConfigError, DataError, ImageError, TextError
from segmentation.cli.console import say

if TYPE_CHECKING:
    from indexer.kinds import Kind

#: How an input of each kind is written in an example.
ASKED: Mapping[str, str] = {"image": "PHOTO", "text": '--text "..."', "audio": "SOUND.wav"}


_ERRORS: Mapping[str, type[DataError]] = {"image": ImageError, "text": TextError, "audio": AudioError}


@dataclass(frozen=True)
class Input:
    """One thing to look at."""

    name: str
    """What results call it: a path, a line of a table, or the text itself."""
    source: Path | str
    """A file, or a text."""
    place: Path | None = None
    """Where a file would lie below the folder of its class; files of folders keep their subfolders."""


def kind_of(recipe: Mapping[str, Any]) -> Kind:
    """What an index with this recipe in its manifest holds."""
    kind: Kind = (recipe.get("backbone") or {}).get("kind", "image")
    return kind


def asked_inputs(
    kind: Kind, paths: Sequence[Path], texts: Sequence[str] = (), *, skip_bad: bool = False
) -> list[Input]:
    """What paths stand for: files, all of their kind in folders, texts in the rows of tables, given texts.

    Raises ConfigError for ``texts`` with an index of something else, and DataError for a path where nothing
    is, unless ``skip_bad`` leaves that to whoever reads it.
    """
    if texts and kind != "text":
        raise ConfigError(f"--text asks an index of texts, and this one holds {NOUNS[kind]}s; give files")
    found = [Input(text, text) for text in texts]
    for path in paths:
        found += _asked_at(path, kind, skip_bad=skip_bad)
    return list({asked.name: asked for asked in found}.values())


def _asked_at(path: Path, kind: Kind, *, skip_bad: bool) -> list[Input]:
    if path.is_dir():
        return _in_folder(path, kind)
    if kind == "text" and _is_table(path):
        return _in_table(path)
    if not path.exists() and not skip_bad:
        hint = ", or give the text itself with --text" if kind == "text" else ""
        raise _ERRORS[kind](f"there is no {NOUNS[kind]} or folder at {path}; check the path{hint}")
    return [Input(str(path), path, Path(path.name))]


def _is_table(path: Path) -> bool:
    from indexer.datasets.table_file import is_table

    return is_table(path)


def _in_table(path: Path) -> list[Input]:
    from indexer.datasets.table_file import read_table

    table = read_table(path)
    if table.problem and not table.rows:
        raise DataError(table.problem)
    return [Input(f"{path}:{line}", text) for line, text in table.texts()]


def _in_folder(folder: Path, kind: Kind) -> list[Input]:
    return [Input(str(path), path, path.relative_to(folder)) for path in files_in(folder, kind)]


def files_in(folder: Path, kind: Kind) -> Sequence[Path]:
    """The files of a kind below a folder; says what is left out. Raises its DataError where there is none."""
    from indexer.audio.formats import AUDIO_SUFFIXES
    from indexer.images.formats import IMAGE_SUFFIXES
    from indexer.images.listing import list_folder
    from indexer.texts.formats import TEXT_SUFFIXES

    suffixes = {"image": IMAGE_SUFFIXES, "text": TEXT_SUFFIXES, "audio": AUDIO_SUFFIXES}[kind]
    listing = list_folder(folder, suffixes)
    for note in listing.notes():
        say(note)
    if not listing.images:
        example = {"image": "1.jpg or 1.png", "text": "1.txt", "audio": "1.wav or 1.flac"}[kind]
        raise _ERRORS[kind](f"folder {folder} holds no {NOUNS[kind]}s; expected files such as {example}")
    return listing.images
