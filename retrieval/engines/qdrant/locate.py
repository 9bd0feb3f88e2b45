"""An index named by an address: what its collection keeps for readers, fetched into a folder."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from retrieval.engines.qdrant.collection import Collection
from retrieval.engines.qdrant.connection import parse_address
from retrieval.engines.qdrant.parameters import engine_parameters, settings_of
from retrieval.engines.qdrant.payload import bank_fingerprint
from retrieval.engines.qdrant.server import IMAGE_PARTS, SHARES
from retrieval.errors import IndexDamagedError
from retrieval.store.cache import cache_folder
from retrieval.store.commit import IndexFiles
from retrieval.store.files import atomic_write, storage_errors
from retrieval.store.layout import CHANGE_LOCK, IMAGES, MANIFEST
from retrieval.store.lock import Lock
from retrieval.store.manifest import Manifest, has_manifest, read_manifest

_INTERNAL = (SHARES, IMAGE_PARTS, MANIFEST)


def fetch_folder(address: str | Path) -> Path:
    """A local folder of the index at ``qdrant://HOST:PORT/COLLECTION``.

    What is fetched (manifest, list of images, feature tensors; no vectors) stays in the cache folder, and
    only what changed is fetched again. Raises ServerError, IndexFileError where there is no such
    collection, IndexDamagedError where its build is not complete, and IndexBusyError where there is
    something to fetch and another process changes the folder for too long.
    """
    collection = Collection(parse_address(address))
    try:
        manifest = _stored_manifest(collection)
        names = f"{collection.settings.url}\n{bank_fingerprint(manifest)}"
        key = hashlib.sha256(names.encode()).hexdigest()[:16]
        name = re.sub(r"[^A-Za-z0-9._-]", "_", collection.name)
        folder = cache_folder() / "collections" / f"{name}-{key}"
        settings = settings_of(manifest).model_copy(
            update=collection.settings.model_dump(include={"url", "grpc_port", "collection"})
        )
        manifest = replace(manifest, engine=engine_parameters(settings))
        if not _is_current(collection, folder, manifest):
            with storage_errors(folder):
                folder.mkdir(parents=True, exist_ok=True)
            lock = Lock(folder / CHANGE_LOCK)
            lock.acquire(f"fetch {collection.name}")
            try:
                _update(collection, folder, manifest)
            finally:
                lock.release()
        return folder
    finally:
        collection.close()


def refresh_folder(folder: Path) -> None:
    """Bring a folder up to date with its collection, which others change too; its lock is the caller's.

    Raises as :func:`fetch_folder`.
    """
    local = read_manifest(folder)
    collection = Collection(settings_of(local))
    try:
        stored = collection.read_manifest()
        if stored is not None and bank_fingerprint(stored[0]) == bank_fingerprint(local):
            manifest = replace(stored[0], engine=local.engine)
            if not _is_current(collection, folder, manifest):
                _update(collection, folder, manifest)
    finally:
        collection.close()


def _stored_manifest(collection: Collection) -> Manifest:
    stored = collection.read_manifest()
    if stored is None or not stored[1]:
        raise IndexDamagedError(
            f"the collection {collection.name!r} at {collection.settings.url} is not complete; run the "
            "`mycelia index build` commands (every --shard of them) that fill it to their end"
        )
    return stored[0]


def _wanted(collection: Collection) -> Iterator[tuple[str, list[str], str]]:
    """What readers need: name, the files in the collection that it is made of, and their checksum."""
    files = collection.files()
    for file in files:
        if not file.name.startswith(_INTERNAL):
            yield Path(file.name).name, [file.name], file.sha256
    parts = [file for file in files if file.name.startswith(IMAGE_PARTS)]
    if parts and not any(file.name == IMAGES for file in files):
        content = b"".join(collection.get_file(part.name) for part in parts)
        yield IMAGES, [part.name for part in parts], hashlib.sha256(content).hexdigest()


def _is_current(collection: Collection, folder: Path, manifest: Manifest) -> bool:
    """Whether the folder says and holds what the collection does."""
    if not has_manifest(folder):
        return False
    local = read_manifest(folder)
    same = replace(manifest, files=local.files, generation=local.generation, format=local.format) == local
    return same and all(
        name in local.files and local.files[name].sha256 == digest and local.place(folder, name).is_file()
        for name, _, digest in _wanted(collection)
    )


def _update(collection: Collection, folder: Path, manifest: Manifest) -> None:
    """Fetch what is not there or has changed, and commit it."""
    local = read_manifest(folder) if has_manifest(folder) else None
    files = IndexFiles(folder, local)
    changes: dict[str, Path | None] = {}
    for name, sources, digest in _wanted(collection):
        entry = None if local is None else local.files.get(name)
        if entry is None or entry.sha256 != digest or not files.current(name).is_file():
            changes[name] = files.next(name)
            with atomic_write(files.next(name)) as out:
                for source in sources:
                    out.write(collection.get_file(source))
    files.commit(manifest, changes)
