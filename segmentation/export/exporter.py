"""The files of one run: those of each photo at once, those of the whole run when it has ended."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from retrieval.store.files import atomic_write, storage_errors
from segmentation.export.base import ExportSettings, Format, LabelledPhoto, RunFile, write_text
from segmentation.export.palette import FORMAT as PALETTE
from segmentation.export.spool import Spool, spool_of


def run_files(formats: Sequence[Format]) -> list[str]:
    """The files below the folder of the masks that a run gets once."""
    names = [format.run_file.name for format in formats if format.run_file is not None]
    return [*names, *(name for format in formats for name in format.companions)]


def photo_files(formats: Sequence[Format], stem: str) -> list[str]:
    """The files below the folder of the masks that a photo gets."""
    return [format.photo_file.name(stem) for format in formats if format.photo_file is not None]


class Exporter:
    """Writes photos in formats, below one folder. Use it as a context manager.

    A file of the whole run is put together when the block ends well. What it takes is on disk from each
    photo on, in ``NAME.lines`` beside it; a run that was stopped leaves that, and the next one into
    the same folder takes from there the photos that are not its own (``names``).
    """

    def __init__(
        self, out: Path, formats: Sequence[Format], settings: ExportSettings, *, names: Sequence[str]
    ) -> None:
        """Raises ConfigError where a stopped run left records made otherwise, StorageError."""
        self._out = out
        self._formats = tuple(formats)
        self.settings = settings
        self._names = frozenset(names)
        self._spools: list[tuple[RunFile, Spool]] = []

    def __enter__(self) -> Exporter:
        with storage_errors(self._out):
            self._out.mkdir(parents=True, exist_ok=True)
        try:
            for format in self._formats:
                if format.run_file is not None:
                    self._spools.append((format.run_file, self._spool(format, format.run_file)))
                for name, text in format.companions.items():
                    write_text(self._out / name, text(self.settings))
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                for run_file, spool in self._spools:
                    self._assemble(run_file, spool)
        finally:
            self._close()

    @property
    def unfinished(self) -> list[Path]:
        """The files that hold what a run stopped now leaves for the next one."""
        return [spool.path for _, spool in self._spools if spool.path.exists()]

    def add(self, photo: LabelledPhoto, *, palette: bool = True) -> list[Path]:
        """Keep what the run's files need of a photo and write its own, in the order of the formats.

        Without ``palette`` its palette PNG is left out: another file takes its place. The file of the last
        format is there only if nothing else of the photo is missing. Returns the
        photo's own files. Raises StorageError.
        """
        for run_file, spool in self._spools:
            spool.append(photo.name, run_file.record(photo))
        written = []
        for format in self._formats:
            if format.photo_file is not None and (palette or format is not PALETTE):
                path = self._out / format.photo_file.name(photo.stem)
                format.photo_file.write(path, photo)
                written.append(path)
        return written

    def _spool(self, format: Format, run_file: RunFile) -> Spool:
        made_by = {
            "format": format.name,
            "classes": self.settings.classes.to_json(),
            "columns": list(self.settings.columns),
            "tolerance": self.settings.tolerance,
        }
        return Spool(spool_of(self._out / run_file.name), made_by, replaced=self._names)

    def _assemble(self, run_file: RunFile, spool: Spool) -> None:
        def records() -> Iterator[Any]:
            return spool.records()

        with atomic_write(self._out / run_file.name) as file:
            for text in run_file.assemble(records, self.settings):
                file.write(text.encode(errors="backslashreplace"))
        spool.remove()

    def _close(self) -> None:
        for _, spool in self._spools:
            spool.close()
