"""An index named by an address: what its collection keeps for readers, fetched into a folder."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from pathlib import Path

from retrieval.engines.qdrant.collection import Collection
from retrieval.engines.qdrant.connection import parse_address
from retrieval.engines.qdrant.payload import bank_fingerprint
from retrieval.engines.qdrant.server import IMAGE_PARTS, SHARDS, engine_parameters, settings_of
from retrieval.errors import IndexDamagedError
from retrieval.store.cache import cache_folder
from retrieval.store.commit import IMAGES, write_manifest
from retrieval.store.files import atomic_write, sha256_file, storage_errors
from retrieval.store.lock import Lock
from retrieval.store.manifest import CHANGE_LOCK, MANIFEST

_INTERNAL = (SHARDS, IMAGE_PARTS, MANIFEST)


def fetch_folder(address: str | Path) -> Path:
    """A local folder of the index at ``qdrant://HOST:PORT/COLLECTION``.

    What is fetched (manifest, list of images, feature tensors; no vectors) stays in the cache folder, and
    only what changed is fetched again. Raises ServerError, IndexFileError where there is no such
    collection and IndexDamagedError where its build is not complete.
    """
    collection = Collection(parse_address(address))
    try:
        return _fetch(collection, cache_folder() / "collections")
    finally:
        collection.close()


def _fetch(collection: Collection, cache: Path) -> Path:
    stored = collection.read_manifest()
    if stored is None or not stored[1]:
        raise IndexDamagedError(
            f"the collection {collection.name!r} at {collection.settings.url} is not complete; run the "
            "`mycelia index build` commands (every --shard of them) that fill it to their end"
        )
    manifest = stored[0]
    key = hashlib.sha256(f"{collection.settings.url}\n{bank_fingerprint(manifest)}".encode()).hexdigest()[:16]
    folder = cache / f"{re.sub(r'[^A-Za-z0-9._-]', '_', collection.name)}-{key}"
    settings = settings_of(manifest).model_copy(
        update=collection.settings.model_dump(include={"url", "grpc_port", "collection"})
    )
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    lock = Lock(folder / CHANGE_LOCK)
    lock.acquire(f"fetch {collection.name}")
    try:
        _fetch_files(collection, folder)
        write_manifest(folder, replace(manifest, engine=engine_parameters(settings), files={}))
    finally:
        lock.release()
    return folder


def _fetch_files(collection: Collection, folder: Path) -> None:
    """Fetch what is not there yet or has changed."""
    for file in collection.files():
        target = folder / Path(file.name).name
        if file.name.startswith(_INTERNAL) or (target.is_file() and sha256_file(target) == file.sha256):
            continue
        with atomic_write(target) as out:
            out.write(collection.get_file(file.name))
    parts = collection.files(IMAGE_PARTS)
    if parts:
        with atomic_write(folder / IMAGES) as out:
            for part in parts:
                out.write(collection.get_file(part.name))
