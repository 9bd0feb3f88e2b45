"""``manifest.json``: what an index says of itself, and where its files are, with their checksums.

The manifest is what makes an index: a change writes its files under names of their own, then replaces the
manifest in one step (``retrieval.store.commit``). A file that the manifest does not list is no part of the
index.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import reprlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from retrieval.classes import ClassMap
from retrieval.errors import REPAIR, IndexDamagedError, IndexFileError, IndexMismatchError, MyceliaError
from retrieval.json_text import parse_json, read_limited
from retrieval.similarity import Similarity, similarity_from_json
from retrieval.store.blocks import block_digests, sum_of_blocks
from retrieval.store.files import PARTIAL, sha256_file
from retrieval.store.layout import CHANGE_LOCK, MANIFEST

#: Version of the index folder that this code writes; it reads this one and every older one.
FORMAT = 4

#: Ending of the files of a change that formats 1 and 2 had begun to commit.
PENDING = ".new"

#: How labels are stored where nothing is said: a byte for every class.
DENSE = {"kind": "dense"}

#: Characters of a listed name.
MOST_NAME = 1024

#: Files up to this many bytes have their checksums compared whenever an index is opened.
QUICK_BYTES = 64 * 2**20


def _now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


def plain_name(name: Any) -> str:
    """``name``, if it names a file in or below the index's folder, with ``/``; ValueError for any other.

    An index may come from anybody, and what its manifest lists is read, renamed and deleted.
    """
    parts = name.split("/") if isinstance(name, str) else []
    # a colon or a backslash leads elsewhere on Windows
    outside = any(part in ("", ".", "..") or any(sign in part for sign in "\\:\0") for part in parts)
    if not parts or outside or len(name) > MOST_NAME or name == MANIFEST:
        raise ValueError(f"{reprlib.repr(name)} is no name of a file in the folder")
    return str(name)


@dataclass(frozen=True)
class FileEntry:
    """Size in bytes and SHA-256 (hexadecimal) of one file of an index."""

    bytes: int
    sha256: str
    path: str | None = None
    """Where it lies, relative to the folder and with ``/``; None: under its name."""
    blocks: tuple[str, ...] | None = None
    """Checksums of the blocks of a file that grows (``retrieval.store.blocks``), of which ``sha256`` is made.

    What lies behind the file's ``bytes`` is of a later state, or of none."""

    def check(self, path: Path, *, checksum: bool) -> str:
        """What is wrong with the file at ``path``, in words that follow its name; empty where nothing is."""
        size = path.stat().st_size
        if size < self.bytes or (size > self.bytes and self.blocks is None):
            return f"has {size} bytes, expected {self.bytes}"
        if checksum and self.sum_up(path) != self.sha256:
            return "has changed since the index was written (its checksum differs)"
        return ""

    def sum_up(self, path: Path) -> str:
        """The checksum of the file as it is now."""
        return sha256_file(path) if self.blocks is None else sum_of_blocks(block_digests(path, self.bytes))

    def to_json(self) -> dict[str, Any]:
        """Plain data for the manifest."""
        place = {} if self.path is None else {"path": self.path}
        blocks = {} if self.blocks is None else {"blocks": list(self.blocks)}
        return {"bytes": self.bytes, "sha256": self.sha256, **place, **blocks}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> FileEntry:
        """The inverse of :meth:`to_json`; raises KeyError or ValueError for another shape."""
        path = None if data.get("path") is None else plain_name(data["path"])
        blocks = data.get("blocks")
        return cls(
            int(data["bytes"]), str(data["sha256"]), path, None if blocks is None else tuple(map(str, blocks))
        )


@dataclass(frozen=True)
class Manifest:
    """Everything needed to open an index and to know whether it fits.

    ``recipe`` is the resolved recipe that built it, ``fingerprints`` identifies the weights and
    the preprocessing, ``counts`` has ``rows`` and ``removed`` and whatever the builder counts,
    ``engine`` has the engine's ``kind`` and its resolved parameters (filled in by
    ``create_index``), ``labels`` how the labels are stored (``retrieval.store.label_file``; filled in
    when the index is written), ``files`` the checksums by path relative to the folder, with ``/``
    (filled in when the manifest is written), ``generation`` how often the index was changed.
    """

    classes: ClassMap
    similarity: Similarity
    recipe: dict[str, Any] = field(default_factory=dict)
    fingerprints: dict[str, str] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    engine: dict[str, Any] = field(default_factory=dict)
    labels: dict[str, Any] = field(default_factory=lambda: dict(DENSE))
    dataset: dict[str, Any] = field(default_factory=dict)
    packages: dict[str, str] = field(default_factory=dict)
    files: dict[str, FileEntry] = field(default_factory=dict)
    created: str = field(default_factory=_now)
    format: int = FORMAT
    generation: int = 0
    fitted_classes: ClassMap | None = None
    """The classes when the features were fitted, where they have changed since."""

    def with_classes(self, classes: ClassMap) -> Manifest:
        """The same with other classes; those that the features were fitted with are remembered."""
        return replace(self, classes=classes, fitted_classes=self.fitted_classes or self.classes)

    def to_json(self) -> dict[str, Any]:
        """Plain data, in the order in which a person reads it."""
        return {
            "format": self.format,
            "generation": self.generation,
            "created": self.created,
            "counts": self.counts,
            "engine": self.engine,
            "labels": self.labels,
            "similarity": self.similarity.to_json(),
            "classes": self.classes.to_json(),
            **({} if self.fitted_classes is None else {"fitted_classes": self.fitted_classes.to_json()}),
            "dataset": self.dataset,
            "recipe": self.recipe,
            "fingerprints": self.fingerprints,
            "packages": self.packages,
            "files": {name: entry.to_json() for name, entry in sorted(self.files.items())},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Manifest:
        """The inverse of :meth:`to_json`; raises KeyError, TypeError or ValueError for another shape."""
        fitted = data.get("fitted_classes")
        return cls(
            classes=ClassMap.from_json(data["classes"]),
            similarity=similarity_from_json(data["similarity"]),
            recipe=dict(data["recipe"]),
            fingerprints=dict(data["fingerprints"]),
            counts={name: int(count) for name, count in data["counts"].items()},
            engine=dict(data["engine"]),
            labels=dict(data.get("labels", DENSE)),  # format 1 had no other kind
            dataset=dict(data["dataset"]),
            packages=dict(data["packages"]),
            files={plain_name(name): FileEntry.from_json(entry) for name, entry in data["files"].items()},
            created=str(data["created"]),
            format=int(data["format"]),
            generation=int(data.get("generation", 0)),  # formats 1 and 2 had none
            fitted_classes=None if fitted is None else ClassMap.from_json(fitted),
        )

    @property
    def live_rows(self) -> int:
        """Rows added and not removed."""
        return self.counts.get("rows", 0) - self.counts.get("removed", 0)

    def place(self, folder: Path, name: str) -> Path:
        """Where a listed file lies. Raises IndexDamagedError for a file that the manifest does not list."""
        entry = self.files.get(name)
        if entry is None:
            raise IndexDamagedError(f"the manifest in {folder} lists no {name}; {REPAIR}")
        return folder / (entry.path or name)


def has_manifest(folder: Path) -> bool:
    """Whether ``folder`` holds a finished index."""
    return (folder / MANIFEST).exists() or _begun_commit(folder) is not None


def is_index(folder: Path) -> bool:
    """Whether ``folder`` holds a manifest of ours, not one of another program. Never raises."""
    try:
        return has_manifest(folder) and bool(read_manifest(folder).files)
    except (MyceliaError, OSError):
        return False


def manifest_stamp(folder: Path) -> tuple[int, int, int] | None:
    """What tells one state from the next without reading it: each has a manifest file of its own."""
    try:
        found = (folder / MANIFEST).stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def read_manifest(folder: Path) -> Manifest:
    """The manifest of an index, checked against its own checksum.

    Raises IndexFileError where there is no folder, IndexDamagedError where the manifest is missing
    or damaged, IndexMismatchError where a newer Mycelia wrote it.
    """
    path = folder / MANIFEST
    if not folder.is_dir():
        raise IndexFileError(f"there is no index at {folder}; build one with `mycelia index build`")
    begun = _begun_commit(folder)
    if begun is not None:
        return begun
    if not path.exists():
        raise IndexDamagedError(
            f"{folder} has no {MANIFEST}, so it is no index or its build has not finished; "
            "run `mycelia index build` with the same arguments to finish it"
        )
    return _parse(path)


def verify_folder(folder: Path, manifest: Manifest, *, all_checksums: bool = True) -> None:
    """Compare every file with the manifest: sizes always, checksums of all files or of the smaller ones.

    Raises IndexDamagedError, naming the first file that is missing or differs.
    """
    for name, entry in manifest.files.items():
        path = manifest.place(folder, name)
        if not path.is_file():
            raise IndexDamagedError(f"{path} is missing; {REPAIR}")
        if wrong := entry.check(path, checksum=False):
            raise IndexDamagedError(f"{path} {wrong}; {REPAIR}")
    for name, entry in manifest.files.items():
        path = manifest.place(folder, name)
        wrong = entry.check(path, checksum=all_checksums or entry.bytes <= QUICK_BYTES)
        if wrong:
            raise IndexDamagedError(f"{path} {wrong}; {REPAIR}")


def unlisted_files(folder: Path, manifest: Manifest) -> list[str]:
    """Files in the folder that are no part of the index, by path with ``/``.

    Locks are left out, and what ends in ``.part`` or is in a folder that does.
    """
    listed = {entry.path or name for name, entry in manifest.files.items()} | {MANIFEST, CHANGE_LOCK}
    if _begun_commit(folder) is not None:
        listed.add(MANIFEST + PENDING)
    return sorted(
        name
        for path in _files_below(folder)
        if (name := path.relative_to(folder).as_posix()) not in listed
        and not any(part.endswith(PARTIAL) for part in name.split("/"))
    )


def encode_manifest(manifest: Manifest) -> bytes:
    """The content of ``manifest.json``."""
    data = manifest.to_json()
    return json.dumps({**data, "checksum": _digest(data)}, indent=1).encode() + b"\n"


def _files_below(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


def _begun_commit(folder: Path) -> Manifest | None:
    """The state whose commit formats 1 and 2 had begun: a whole ``manifest.json.new``, files renamed or not.

    Nothing is renamed here, since a reader writes nothing; None where there is no such state.
    """
    path = folder / (MANIFEST + PENDING)
    if not path.exists():
        return None
    try:
        begun = _parse(path)
        if begun.format > 2 or ((folder / MANIFEST).exists() and _parse(folder / MANIFEST).format > 2):
            return None  # left over: a later change has been committed since
    except IndexFileError:
        return None
    files = {name: _renamed_or_not(folder, name, entry) for name, entry in begun.files.items()}
    return replace(begun, files=files)


def _renamed_or_not(folder: Path, name: str, entry: FileEntry) -> FileEntry:
    pending = folder / (name + PENDING)
    fits = (
        pending.is_file() and pending.stat().st_size == entry.bytes and sha256_file(pending) == entry.sha256
    )
    return replace(entry, path=name + PENDING) if fits else entry


def _digest(data: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def _parse(path: Path) -> Manifest:
    try:
        data = parse_json(read_limited(path), own=True)
        version = int(data["format"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise IndexDamagedError(f"{path} is no manifest ({error}); {REPAIR}") from error
    if version > FORMAT:
        raise IndexMismatchError(
            f"{path} has format {version}, and this Mycelia reads formats up to {FORMAT}; update Mycelia"
        )
    checksum = data.pop("checksum", None)
    if checksum != _digest(data):
        raise IndexDamagedError(f"{path} has changed since it was written (its checksum differs); {REPAIR}")
    try:
        return Manifest.from_json(data)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise IndexDamagedError(f"{path} is no manifest ({error}); {REPAIR}") from error
