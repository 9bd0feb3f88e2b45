"""What assist wrote into a folder, with digests, so that a person's files are told from its own."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from retrieval.errors import ConfigError
from retrieval.json_text import parse_json
from retrieval.store.files import sha256_file, storage_errors, sync_file
from retrieval.store.lock import Lock

#: Below the folder of the masks: the record, and files on their way.
HIDDEN, LINES, STAGING = ".assist", "record.jsonl", "staging"


@dataclass
class Photo:
    """What the record says of a photo."""

    content: str
    """SHA-256 of the photo."""
    made_by: str
    """Digest of the memory and the settings that made its mask."""
    measures: dict[str, Any] = field(default_factory=dict)


class Record:
    """The lines of ``.assist/record.jsonl``. A file is assist's own while it is as assist wrote it.

    Every digest that a file was ever given counts: a run may be stopped between the line that announces a
    file and the file.
    """

    def __init__(self, out: Path) -> None:
        """Raises ConfigError for a record that cannot be read."""
        self.out = out
        self.staging = out / HIDDEN / STAGING
        self.photos: dict[str, Photo] = {}
        self._labels: dict[str, dict[str, str]] = {}
        self._files: dict[str, set[str]] = {}
        self._place = out / HIDDEN / LINES
        self._read()

    def _read(self) -> None:
        for line in self._lines():
            self._take(line)

    @property
    def files(self) -> list[str]:
        """Every file that it ever wrote, below its folder."""
        return list(self._files)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """The folder for this process alone, and the record as it is now; raises IndexBusyError."""
        with storage_errors(self.out):
            self.staging.mkdir(parents=True, exist_ok=True)
        lock = Lock(self.out / HIDDEN / "lock")
        lock.acquire(f"label into {self.out}", wait=0)
        try:
            self._read()  # which another process may have gone on with
            shutil.rmtree(self.staging, ignore_errors=True)
            self.staging.mkdir()
            yield
            shutil.rmtree(self.staging, ignore_errors=True)
        finally:
            lock.release()

    def is_ours(self, name: str) -> bool:
        """Whether a file is there as assist wrote it."""
        path = self.out / name
        return path.is_file() and sha256_file(path) in self._files.get(name, ())

    def is_foreign(self, name: str) -> bool:
        """Whether something is there that assist did not write, or that was changed since."""
        return os.path.lexists(self.out / name) and not self.is_ours(name)

    def publish(
        self, names: Iterable[str], photo: str | None = None, about: Photo | None = None
    ) -> list[str]:
        """Put files of the staging folder in their places; returns those where a person's file was kept.

        The line with their digests is on the disk before the first of them is in its place. Raises
        StorageError.
        """
        names = list(names)
        line: dict[str, Any] = {"files": {name: sha256_file(self.staging / name) for name in names}}
        if photo is not None and about is not None:
            line |= {"photo": photo, **about.__dict__}
        foreign = [name for name in names if self.is_foreign(name)]
        self._append(line)
        with storage_errors(self.out):
            for name in names:
                if name in foreign:
                    (self.staging / name).unlink()
                    continue
                (self.out / name).parent.mkdir(parents=True, exist_ok=True)
                (self.staging / name).replace(self.out / name)
        return foreign

    def labels_of(self, memory: str) -> Mapping[str, str]:
        """SHA-256 of the labels that a memory has, by image, as far as they are known."""
        return self._labels.get(memory, {})

    def keep_labels(self, labels: Mapping[str, str], memory: str) -> None:
        """Remember the digests of the labels that a memory has now; ``memory`` tells it from others."""
        self._append({"labels": dict(labels), "memory": memory})

    def _append(self, line: Mapping[str, Any]) -> None:
        self._take(line)
        with storage_errors(self._place.parent):
            self._place.parent.mkdir(parents=True, exist_ok=True)
            with self._place.open("ab") as file:
                if file.tell() and not self._ends_well():
                    file.write(b"\n")  # what a run that was killed wrote half
                file.write(json.dumps(line, allow_nan=False).encode() + b"\n")
                sync_file(file)

    def _ends_well(self) -> bool:
        with self._place.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read() == b"\n"

    def _take(self, line: Mapping[str, Any]) -> None:
        for name, digest in line.get("files", {}).items():
            self._files.setdefault(name, set()).add(digest)
        if "photo" in line:
            self.photos[line["photo"]] = Photo(line["content"], line["made_by"], line["measures"])
        if "labels" in line:
            self._labels[line.get("memory", "")] = dict(line["labels"])

    def _lines(self) -> Iterator[dict[str, Any]]:
        if not self._place.is_file():
            return
        for number, text in enumerate(self._place.read_text(encoding="utf-8").splitlines(), 1):
            try:
                line = parse_json(text, own=True)
            except ValueError:
                continue  # half a line of a run that was killed: its files were never put in place
            if not isinstance(line, dict):
                raise ConfigError(
                    f"{self._place}, line {number}, is no line of a record; choose another --out"
                )
            yield line
