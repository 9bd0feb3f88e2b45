"""Qdrant: in this process, or on a server or cluster where the settings name one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from retrieval.engines.qdrant.settings import KIND_EDGE, KIND_SERVER, QdrantSettings
from retrieval.engines.qdrant.sizing import describe_graph
from retrieval.engines.spec import Creation, EngineSpec, Opening, SharedFiles
from retrieval.store.manifest import Manifest

if TYPE_CHECKING:
    from retrieval.index import PatchIndex


#: Where the vectors are, and how they are stored.
SHOWN = ("kind", "url", "collection", "datatype", "quantization", "on_disk", "m", "ef")


def _create_edge(asked: Creation) -> PatchIndex:
    from retrieval.engines.embedded import create_embedded
    from retrieval.engines.qdrant.edge import EdgeEngine
    from retrieval.engines.qdrant.edge_index import EdgeIndex

    return create_embedded(
        asked,
        lambda similarity, rows: EdgeEngine.create(
            asked.files, similarity, settings=asked.settings, rows=rows, expected=asked.rows
        ),
        index=EdgeIndex,
    )


def _open_edge(asked: Opening) -> PatchIndex:
    from retrieval.engines.embedded import open_embedded
    from retrieval.engines.qdrant.edge import EdgeEngine
    from retrieval.engines.qdrant.edge_index import EdgeIndex

    return open_embedded(
        asked,
        lambda similarity, rows: EdgeEngine.open(asked.files, similarity, asked.manifest.engine, rows=rows),
        index=EdgeIndex,
    )


def _require_edge() -> None:
    from retrieval.engines.qdrant.edge import load_edge

    load_edge()


def _create_server(asked: Creation) -> PatchIndex:
    from retrieval.engines.qdrant.server import ServerIndex

    return ServerIndex.create(asked.files, asked.manifest, asked.settings, share=asked.share)


def _open_server(asked: Opening) -> PatchIndex:
    from retrieval.engines.qdrant.server import ServerIndex

    return ServerIndex.open(asked.files, asked.manifest)


def _fetch(path: str | Path) -> Path | None:
    from retrieval.engines.qdrant.connection import is_address
    from retrieval.engines.qdrant.locate import fetch_folder

    return fetch_folder(path) if is_address(path) else None


def _refresh(folder: Path) -> None:
    from retrieval.engines.qdrant.locate import refresh_folder

    refresh_folder(folder)


def _reach(settings: QdrantSettings, manifest: Manifest) -> None:
    from retrieval.engines.qdrant.server import open_collection

    open_collection(settings, manifest).close()


def _facts(index: PatchIndex) -> Mapping[str, str]:
    from retrieval.engines.qdrant.server import ServerIndex

    if not isinstance(index, ServerIndex):
        return {}
    return {"graph": describe_graph(index.collection.graph(), len(index))}


@contextmanager
def _shared_files(settings: QdrantSettings, manifest: Manifest) -> Iterator[SharedFiles]:
    from retrieval.engines.qdrant.collection import CollectionFiles
    from retrieval.engines.qdrant.server import open_collection

    collection = open_collection(settings, manifest)
    try:
        yield CollectionFiles(collection)
    finally:
        collection.close()


EDGE = EngineSpec(
    name="qdrant",
    kind=KIND_EDGE,
    title="Qdrant",
    settings=QdrantSettings,
    create=_create_edge,
    open=_open_edge,
    chosen=lambda settings: settings.url is None,
    require=_require_edge,
    packages=("qdrant-edge-py",),
    reranks=False,
    one_process=True,
    shown=SHOWN,
)

SERVER = EngineSpec(
    name="qdrant",
    kind=KIND_SERVER,
    title="a Qdrant server",
    settings=QdrantSettings,
    create=_create_server,
    open=_open_server,
    chosen=lambda settings: settings.url is not None,
    packages=("qdrant-client",),
    reranks=False,
    keeps_multiplicity=False,
    fetch=_fetch,
    refresh=_refresh,
    reach=_reach,
    shared_files=_shared_files,
    facts=_facts,
    shown=SHOWN,
)
