"""``manifest.json``: what an index says of itself, and the checksums of all its files.

The manifest is written last; without one there is no index. Files that change together are
committed together: each waits as ``NAME.new``, then ``manifest.json.new`` is written, which
names all of them, and only then everything is renamed. A crash before that manifest is complete
leaves the old index; after it, the next opening finishes the renames (:func:`finish_commit`).
"""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from retrieval.classes import ClassMap
from retrieval.errors import REPAIR, IndexDamagedError, IndexFileError, IndexMismatchError
from retrieval.similarity import Similarity, similarity_from_json, similarity_to_json
from retrieval.store.files import (
    PARTIAL,
    PENDING,
    atomic_write,
    pending_path,
    sha256_file,
    storage_errors,
    sync_folder,
)

MANIFEST = "manifest.json"

#: Version of the index folder that this code writes; it reads this one and every older one.
FORMAT = 2

#: How labels are stored where nothing is said: a byte for every class.
DENSE = {"kind": "dense"}

#: Start of the names of an engine's subfolders, of which only the manifest's (``engine["folder"]``) counts.
GENERATION = "edge."

#: Files up to this many bytes have their checksums compared whenever an index is opened.
QUICK_BYTES = 64 * 2**20


def _now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


@dataclass(frozen=True)
class FileEntry:
    """Size in bytes and SHA-256 (hexadecimal) of one file of an index."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """Everything needed to open an index and to know whether it fits.

    ``recipe`` is the resolved recipe that built it, ``fingerprints`` identifies the weights and
    the preprocessing, ``counts`` has ``rows`` and ``removed`` and whatever the builder counts,
    ``engine`` has the engine's ``kind`` and its resolved parameters (filled in by
    ``create_index``), ``labels`` how the labels are stored (``retrieval.store.label_file``; filled in
    when the index is written), ``files`` the checksums by path relative to the folder, with ``/``
    (filled in when the manifest is written).
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

    def to_json(self) -> dict[str, Any]:
        """Plain data, in the order in which a person reads it."""
        return {
            "format": self.format,
            "created": self.created,
            "counts": self.counts,
            "engine": self.engine,
            "labels": self.labels,
            "similarity": similarity_to_json(self.similarity),
            "classes": self.classes.to_json(),
            "dataset": self.dataset,
            "recipe": self.recipe,
            "fingerprints": self.fingerprints,
            "packages": self.packages,
            "files": {
                name: {"bytes": entry.bytes, "sha256": entry.sha256}
                for name, entry in sorted(self.files.items())
            },
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Manifest:
        """The inverse of :meth:`to_json`; raises KeyError, TypeError or ValueError for another shape."""
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
            files={
                name: FileEntry(int(entry["bytes"]), str(entry["sha256"]))
                for name, entry in data["files"].items()
            },
            created=str(data["created"]),
            format=int(data["format"]),
        )


def has_manifest(folder: Path) -> bool:
    """Whether ``folder`` holds a finished index."""
    return (folder / MANIFEST).exists() or _pending_manifest(folder) is not None


def read_manifest(folder: Path) -> Manifest:
    """The manifest of an index, checked against its own checksum.

    Raises IndexFileError where there is no folder, IndexDamagedError where the manifest is missing
    or damaged, IndexMismatchError where a newer Mycelia wrote it.
    """
    path = folder / MANIFEST
    if not folder.is_dir():
        raise IndexFileError(f"there is no index at {folder}; build one with `mycelia index build`")
    if not path.exists():
        raise IndexDamagedError(
            f"{folder} has no {MANIFEST}, so it is no index or its build has not finished; "
            "run `mycelia index build` with the same arguments to finish it"
        )
    return _parse(path)


def write_manifest(folder: Path, manifest: Manifest) -> Manifest:
    """Write the manifest with the checksums of every file in ``folder``; returns it with them.

    Use it after changing files that the index itself does not hold (features, thumbnails);
    ``PatchIndex.flush`` does it too. Raises StorageError.
    """
    return commit(folder, manifest, ())


def commit(folder: Path, manifest: Manifest, staged: Iterable[Path]) -> Manifest:
    """Rename the pending versions of ``staged`` into place together with a new manifest.

    Every path of ``staged`` must have a complete, synced ``NAME.new`` beside it. Returns the
    manifest with the checksums filled in. Raises StorageError; the old index is then intact.
    """
    paths = tuple(staged)
    with storage_errors(folder):
        current = {path: path for path in _payload(folder, manifest)}
        current.update({path: pending_path(path) for path in paths})
        files = {
            path.relative_to(folder).as_posix(): FileEntry(source.stat().st_size, sha256_file(source))
            for path, source in current.items()
        }
        complete = replace(manifest, files=files, format=FORMAT)
        with atomic_write(pending_path(folder / MANIFEST)) as file:
            file.write(_encode(complete))
        _rename_all(folder, paths)
    return complete


def is_committing(folder: Path) -> bool:
    """Whether a commit in ``folder`` broke off after its manifest was written.

    Whatever that manifest names must stay: the next opening finishes the renames.
    """
    return pending_path(folder / MANIFEST).exists()


def finish_commit(folder: Path) -> None:
    """Finish the renames of a commit that a crash interrupted; does nothing where there was none."""
    pending = _pending_manifest(folder)
    if pending is None:
        return
    staged = [folder / name for name in pending.files if pending_path(folder / name).exists()]
    matches = [
        path
        for path in staged
        if _fits(pending_path(path), pending.files[path.relative_to(folder).as_posix()])
    ]
    with storage_errors(folder):
        _rename_all(folder, matches)


def verify_folder(folder: Path, manifest: Manifest, *, all_checksums: bool = True) -> None:
    """Compare every file with the manifest: sizes always, checksums of all files or of the smaller ones.

    Raises IndexDamagedError, naming the first file that is missing or differs.
    """
    for name, entry in manifest.files.items():
        path = folder / name
        if not path.is_file():
            raise IndexDamagedError(f"{path} is missing; {REPAIR}")
        size = path.stat().st_size
        if size != entry.bytes:
            raise IndexDamagedError(f"{path} has {size} bytes, expected {entry.bytes}; {REPAIR}")
    for name, entry in manifest.files.items():
        if (all_checksums or entry.bytes <= QUICK_BYTES) and sha256_file(folder / name) != entry.sha256:
            raise IndexDamagedError(
                f"{folder / name} has changed since the index was written (its checksum differs); {REPAIR}"
            )


def _payload(folder: Path, manifest: Manifest) -> Iterator[Path]:
    """Every file of an index but the manifest, an engine's older subfolders and a crash's leftovers."""
    kept = manifest.engine.get("folder")
    for path in sorted(folder.rglob("*")):
        top = path.relative_to(folder).parts[0]
        if top.startswith(GENERATION) and top != kept:
            continue
        if path.is_file() and path.name != MANIFEST and path.suffix not in (PENDING, PARTIAL):
            yield path


def _rename_all(folder: Path, paths: Iterable[Path]) -> None:
    for path in (*paths, folder / MANIFEST):
        pending_path(path).replace(path)
    sync_folder(folder)


def _fits(path: Path, entry: FileEntry) -> bool:
    return path.stat().st_size == entry.bytes and sha256_file(path) == entry.sha256


def _pending_manifest(folder: Path) -> Manifest | None:
    path = pending_path(folder / MANIFEST)
    if not path.exists():
        return None
    try:
        return _parse(path)
    except IndexFileError:
        return None


def _digest(data: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def _encode(manifest: Manifest) -> bytes:
    data = manifest.to_json()
    return json.dumps({**data, "checksum": _digest(data)}, indent=1).encode() + b"\n"


def _parse(path: Path) -> Manifest:
    try:
        data = json.loads(path.read_bytes())
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
