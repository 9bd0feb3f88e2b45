"""What an export format is, and what it is given."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from retrieval.classes import ClassMap
from retrieval.store.files import atomic_write, storage_errors
from segmentation.export.regions import Part, Region, find_regions


@dataclass(frozen=True)
class ExportSettings:
    """What holds for all photos of a run."""

    classes: ClassMap
    columns: tuple[int, ...]
    """The class columns to export, ascending."""
    tolerance: float = 0.0
    """How far a polygon may be from the pixels' edges; 0 keeps every corner."""

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the classes to export."""
        return tuple(self.classes.names[column] for column in self.columns)


@dataclass(frozen=True)
class LabelledPhoto:
    """A photo with its mask; rows and columns are those of the upright photo (EXIF's turn applied)."""

    path: Path
    """Where the photo is."""
    name: str
    """Its name for a labelling tool: from the folder that was given on, with ``/`` and its ending."""
    stem: str
    """The name of its mask, without the ending."""
    mask: npt.NDArray[Any]
    """(H, W) class ids."""
    columns: npt.NDArray[np.int32]
    """(H, W) class columns; -1 has no class."""
    confidence: npt.NDArray[np.float32] | None
    """(H, W) in 0..1, or None."""
    settings: ExportSettings = field(repr=False)

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        return self.columns.shape[0], self.columns.shape[1]

    @cached_property
    def regions(self) -> tuple[Region, ...]:
        """The connected regions of the classes to export; the same for every format."""
        return find_regions(self.columns, self.settings.columns, self.confidence)

    @cached_property
    def outlines(self) -> tuple[tuple[Region, tuple[Part, ...]], ...]:
        """Each region with its parts' outlines, to the tolerance asked for."""
        return tuple((region, region.parts(self.settings.tolerance)) for region in self.regions)

    def class_name(self, region: Region) -> str:
        """The name of a region's class."""
        return self.settings.classes.names[region.column]


@dataclass(frozen=True)
class PhotoFile:
    """A file for each photo."""

    name: Callable[[str], str]
    """From the mask's stem to the file, both below the folder of the masks."""
    write: Callable[[Path, LabelledPhoto], None]
    """Writes the file, at once or not at all."""


@dataclass(frozen=True)
class RunFile:
    """One file for all photos. What it says of each is kept on disk until the last one is done."""

    name: str
    record: Callable[[LabelledPhoto], Any]
    """What has to be known of one photo, as plain data for JSON."""
    assemble: Callable[[Callable[[], Iterator[Any]], ExportSettings], Iterator[str]]
    """The text of the file, piece by piece, from the records, which may be read more than once."""


def _nothing_needed() -> None:
    pass


@dataclass(frozen=True)
class Format:
    """A format of masks: a file a photo, or a file a run, and what a tool wants beside it."""

    name: str
    """What ``--export`` takes."""
    about: str
    """The tool or format, and what of a mask it gets, in a phrase."""
    photo_file: PhotoFile | None = None
    run_file: RunFile | None = None
    companions: Mapping[str, Callable[[ExportSettings], str]] = field(default_factory=dict)
    """Further files of a run, which depend on the settings alone: name, and what makes the text."""
    require: Callable[[], None] = _nothing_needed
    """Raises MissingExtraError where a package is missing."""


def to_json(data: Any) -> str:
    """Compact JSON, its letters as they are; of file names that are no text, escapes."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode(errors="backslashreplace").decode()


def write_text(path: Path, text: str) -> None:
    """Write UTF-8, at once or not at all; makes the folder. Raises StorageError."""
    with storage_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        file.write(text.encode(errors="backslashreplace"))
