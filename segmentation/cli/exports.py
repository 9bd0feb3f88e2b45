"""Exports beside the masks: the options of ``mycelia segment`` and what they stand for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from retrieval.errors import ConfigError
from segmentation.cli.console import say

if TYPE_CHECKING:
    from retrieval.classes import ClassMap
    from segmentation.export import Exporter, Format

Export = Annotated[
    list[str] | None,
    typer.Option(
        "--export",
        metavar="FORMAT,...",
        help="Also write the masks for labelling tools: coco, coco-rle, labelme, cvat, label-studio, "
        "label-studio-polygons, yolo, geojson; may be repeated.",
    ),
]
ExportClasses = Annotated[
    list[str] | None,
    typer.Option(
        "--export-classes",
        metavar="NAME,...",
        help="Classes to export, or all; without, all but those named background, void or unlabelled.",
    ),
]
#: More than the side of any photo.
MOST_TOLERANCE = 100_000

Tolerance = Annotated[
    float | None,
    typer.Option(
        "--tolerance",
        min=0,
        metavar="PIXELS",
        help="How far exported polygons may be from the pixels' edges; 0 keeps every corner.",
    ),
]


@dataclass(frozen=True)
class Exports:
    """The formats to write beside the palette PNGs, which a run always writes."""

    formats: tuple[Format, ...]
    classes: tuple[str, ...]
    tolerance: float

    @classmethod
    def of(
        cls, formats: Sequence[str] | None, classes: Sequence[str] | None, tolerance: float | None
    ) -> Exports:
        """What the options ask for; raises ConfigError for an unknown format or options without one."""
        from segmentation.export import choose_formats
        from segmentation.export.palette import FORMAT

        if not formats and (classes or tolerance is not None):
            option = "--export-classes" if classes else "--tolerance"
            raise ConfigError(f"{option} is about exports; name a format too, for example --export coco")
        chosen = tuple(format for format in choose_formats(formats or ()) if format is not FORMAT)
        if tolerance is not None and not 0 <= tolerance <= MOST_TOLERANCE:
            raise ConfigError(f"--tolerance is {tolerance:g} pixels; give 0 to {MOST_TOLERANCE:,}")
        return cls(chosen, tuple(classes or ()), tolerance or 0.0)

    def run_files(self, out: Path) -> list[Path]:
        """The files that hold all photos."""
        return [out / format.run_file.name for format in self.formats if format.run_file is not None]

    def are_whole(self, out: Path) -> bool:
        """Whether a run has finished every file of all photos."""
        from segmentation.export.spool import spool_of

        return all(path.exists() and not spool_of(path).exists() for path in self.run_files(out))

    def of_photos(self) -> Exports:
        """Those with a file for each photo alone."""
        return replace(self, formats=tuple(format for format in self.formats if format.run_file is None))

    def recorded(self, out: Path) -> set[str] | None:
        """Photos whose records for the files of all photos a stopped run left; None without such files."""
        from segmentation.export.spool import recorded_names, spool_of

        found = [recorded_names(spool_of(path)) for path in self.run_files(out)]
        return set.intersection(*found) if found else None

    def shared_files(self, out: Path) -> list[Path]:
        """Every file of a run that is no single photo's."""
        from segmentation.export import run_files

        return [out / name for name in run_files(self.formats)]

    @contextmanager
    def open(self, out: Path, classes: ClassMap, names: Sequence[str]) -> Iterator[Exporter]:
        """The writer of a run over the photos ``names``; says what a run that is stopped leaves.

        Raises ConfigError for an unknown class, StorageError.
        """
        from segmentation.export import Exporter, ExportSettings, choose_classes
        from segmentation.export.palette import FORMAT

        settings = ExportSettings(classes, choose_classes(classes, self.classes), self.tolerance)
        exporter = Exporter(out, (*self.formats, FORMAT), settings, names=names)
        try:
            with exporter:
                yield exporter
        except BaseException:
            for path in exporter.unfinished:
                say(f"{path} keeps what is done; the next run with this --out and --export goes on from it")
            raise
