"""A collection on a Qdrant server: how it is made, loaded, finished, and what it keeps besides patches."""

from __future__ import annotations

import base64
import hashlib
import importlib
import json
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from retrieval.engines.qdrant.connection import connect, load_client, server_errors
from retrieval.engines.qdrant.nodes import Nodes
from retrieval.engines.qdrant.payload import INDEXED, KIND, OTHERS, State, bank_fingerprint, reserved_id
from retrieval.engines.qdrant.server_requests import quantization_config
from retrieval.engines.qdrant.settings import MEMORY, QdrantSettings
from retrieval.engines.qdrant.sizing import Graph
from retrieval.errors import IndexDamagedError, IndexMismatchError, ServerError
from retrieval.json_text import parse_json
from retrieval.store.manifest import Manifest

#: Name of the points' vector; points that are no patches have none.
VECTOR = "patch"

_MANIFEST_FILE = "manifest.json"
_METADATA = "mycelia"

#: The point that tells of changes.
_STATE = reserved_id("state")

#: Bytes of a stored file in one point, before base64.
_PIECE = 1 << 20

#: Seconds between two looks at a collection that is being optimised.
_POLL = 1.0

#: Called with how many vectors are in the graph and how many there are.
GraphProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class StoredFile:
    """A file kept in a collection."""

    name: str
    sha256: str
    bytes: int


class Collection:
    """One collection and the requests it is asked; every failure is an error of ours."""

    def __init__(self, settings: QdrantSettings, *, client: Any = None) -> None:
        """``client`` shares an open client (of the in-memory store, whose data die with it)."""
        self.settings = settings
        self.name = str(settings.collection)
        self.models: Any = load_client().models
        self._owns_client = client is None
        self.client: Any = connect(settings) if client is None else client

    @property
    def in_memory(self) -> bool:
        """Whether this is the client's own store, which has no graph, no payload index and no status."""
        return self.settings.url == MEMORY

    @property
    def speaks_grpc(self) -> bool:
        """Whether :meth:`ask` can be used."""
        return self.settings.grpc and not self.in_memory

    def ask(self, method: str, message: Any) -> Any:
        """The answer to a gRPC message of the points service (``QueryBatch``, ``Get``, ``Upsert``)."""

        def send(client: Any) -> Any:
            return getattr(client.grpc_points, method)(message, timeout=self.settings.timeout)

        with server_errors(self.settings):
            return self.client.call(send) if isinstance(self.client, Nodes) else send(self.client)

    def close(self) -> None:
        """Close the connection."""
        if self._owns_client:
            self.client.close()

    def create(self, width: int, manifest: Manifest) -> None:
        """Make the collection for loading: no graph yet, payload indexes before the first point.

        One that is there already is taken when it is of the same bank (a build that goes on, or
        another shard of it); raises IndexMismatchError otherwise.
        """
        m, chosen = self.models, self.settings
        with server_errors(chosen):
            if not self.client.collection_exists(self.name):
                self._create(width)
                self._index_payload(m)
        self.check(width)
        stored = self.read_manifest()
        if stored is None:
            self.write_manifest(manifest, complete=False)
        elif bank_fingerprint(stored[0]) != bank_fingerprint(manifest):
            raise IndexMismatchError(
                f"the collection {self.name!r} at {chosen.url} holds patches of another recipe, other "
                "weights or another data set; choose another name with "
                "index.qdrant.collection, or delete that one"
            )

    def check(self, width: int) -> None:
        """Raise IndexFileError where there is no such collection, IndexMismatchError where it is not ours."""
        with server_errors(self.settings):
            vectors = self.client.get_collection(self.name).config.params.vectors
        if not isinstance(vectors, dict) or VECTOR not in vectors:
            raise IndexMismatchError(
                f"the collection {self.name!r} at {self.settings.url} was not made by Mycelia; "
                "choose another name"
            )
        if vectors[VECTOR].size != width:
            raise IndexMismatchError(
                f"the collection {self.name!r} at {self.settings.url} holds vectors of "
                f"{vectors[VECTOR].size} numbers, and this recipe makes {width}; "
                "choose another index.qdrant.collection"
            )

    def finish(self, progress: GraphProgress | None = None) -> None:
        """Switch the graph on and wait until the server has built it (the collection is green)."""
        if self.in_memory:
            return
        m, chosen = self.models, self.settings
        with server_errors(chosen):
            if self.client.get_collection(self.name).config.hnsw_config.m != chosen.m:
                graph = m.HnswConfigDiff(m=chosen.m, ef_construct=chosen.ef_construct)
                self.client.update_collection(self.name, hnsw_config=graph)
        green = 0
        while green < 2:  # right after the change the status is that of before it
            time.sleep(_POLL)
            with server_errors(chosen):
                info = self.client.get_collection(self.name)
            if progress is not None:
                progress(info.indexed_vectors_count or 0, info.points_count or 0)
            if info.status == m.CollectionStatus.RED:
                raise ServerError(
                    f"the Qdrant server at {chosen.url} cannot optimise {self.name!r} "
                    f"({info.optimizer_status}); see its log, mend it, and run the same command again"
                )
            green = green + 1 if info.status == m.CollectionStatus.GREEN else 0

    def graph(self) -> Graph:
        """How far the graphs are, as the server sees it."""
        if self.in_memory:
            return Graph(0, False, None)
        with server_errors(self.settings):
            info = self.client.get_collection(self.name)
        config = info.config
        threshold = config.optimizer_config.indexing_threshold
        return Graph(info.indexed_vectors_count or 0, config.hnsw_config.m > 0, threshold)

    def write_manifest(self, manifest: Manifest, *, complete: bool) -> None:
        """Keep the manifest in the collection's metadata, or in a reserved point on a server without."""
        data = {**manifest.to_json(), "files": {}}
        text = json.dumps({"complete": complete, "manifest": data})
        with server_errors(self.settings):
            self.client.update_collection(self.name, metadata={_METADATA: text})
            kept = self.client.get_collection(self.name).config.metadata
        if (kept or {}).get(_METADATA) != text:
            self.put_file(_MANIFEST_FILE, text.encode())

    def read_manifest(self) -> tuple[Manifest, bool] | None:
        """The collection's manifest and whether the bank is complete; None where there is none yet."""
        with server_errors(self.settings):
            text = (self.client.get_collection(self.name).config.metadata or {}).get(_METADATA)
        if text is None:
            if not any(file.name == _MANIFEST_FILE for file in self.files()):
                return None
            text = self.get_file(_MANIFEST_FILE).decode()
        try:
            data = parse_json(text, own=True)
            return Manifest.from_json(data["manifest"]), bool(data["complete"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise IndexDamagedError(
                f"the manifest in the collection {self.name!r} at {self.settings.url} is damaged ({error}); "
                "build the index again under another name"
            ) from error

    def announce(self, *, changing: bool) -> None:
        """Tell readers that rows are about to change, or that they have changed."""
        payload = {KIND: "state", "token": uuid.uuid4().hex, "changing": changing}
        self._upsert(self.models.PointStruct(id=_STATE, vector={}, payload=payload))

    def state(self) -> State | None:
        """What writers told last, over gRPC; None where none has told anything yet."""
        q = importlib.import_module("qdrant_client.grpc")
        message = q.GetPoints(
            collection_name=self.name,
            ids=[q.PointId(uuid=_STATE)],
            with_payload=q.WithPayloadSelector(enable=True),
        )
        for point in self.ask("Get", message).result:
            return State(point.payload["token"].string_value, point.payload["changing"].bool_value)
        return None

    def no_patch(self, error: object) -> IndexDamagedError:
        """The error about a point that is no patch."""
        return IndexDamagedError(
            f"the collection {self.name!r} at {self.settings.url} has a point that is no patch ({error}); "
            "nobody but Mycelia should write to it: build the index again"
        )

    def files(self, prefix: str = "") -> list[StoredFile]:
        """The files whose names start with ``prefix``, by name."""
        kind = self._equals(KIND, "file")
        found = [
            StoredFile(str(p["name"]), str(p["sha256"]), int(p["bytes"]))
            for p in self._payloads(self.models.Filter(must=[kind]))
        ]
        return sorted((file for file in found if file.name.startswith(prefix)), key=lambda file: file.name)

    def put_file(self, name: str, content: bytes, *, first_wins: bool = False) -> None:
        """Keep a file; one of that name is replaced, or kept with ``first_wins`` (where the server can).

        The pieces come first and the point that names them last, so a file is there whole or not at all.
        """
        m = self.models
        digest = hashlib.sha256(content).hexdigest()
        if any(file.name == name and (first_wins or file.sha256 == digest) for file in self.files(name)):
            return
        for number, start in enumerate(range(0, len(content), _PIECE)):
            data = base64.b64encode(content[start : start + _PIECE]).decode()
            payload = {KIND: "data", "name": name, "sha256": digest, "number": number, "data": data}
            self._upsert(
                m.PointStruct(id=reserved_id("data", name, digest, number), vector={}, payload=payload)
            )
        payload = {KIND: "file", "name": name, "sha256": digest, "bytes": len(content)}
        point = m.PointStruct(id=reserved_id("file", name), vector={}, payload=payload)
        self._upsert(point, update_mode=m.UpdateMode.INSERT_ONLY if first_wins else None)

    def get_file(self, name: str) -> bytes:
        """A file's content. Raises IndexDamagedError where it is not there or not whole."""
        stored = next((file for file in self.files(name) if file.name == name), None)
        if stored is not None:
            wanted = [
                self._equals("name", name),
                self._equals("sha256", stored.sha256),
                self._equals(KIND, "data"),
            ]
            pieces = sorted(self._payloads(self.models.Filter(must=wanted)), key=lambda p: int(p["number"]))
            content = b"".join(base64.b64decode(piece["data"]) for piece in pieces)
            if hashlib.sha256(content).hexdigest() == stored.sha256:
                return content
        raise IndexDamagedError(
            f"the collection {self.name!r} at {self.settings.url} has no whole file {name}; "
            "build the index again"
        )

    def delete_files(self, prefix: str) -> None:
        """Drop the files whose names start with ``prefix``."""
        m = self.models
        for file in self.files(prefix):
            with server_errors(self.settings):
                self.client.delete(self.name, m.Filter(must=[self._equals("name", file.name)]), wait=True)

    def count(self, condition: Any = None) -> int:
        """How many points match, exactly; patches and others."""
        with server_errors(self.settings):
            return int(self.client.count(self.name, count_filter=condition, exact=True).count)

    def count_patches(self) -> int:
        """How many patches there are, exactly."""
        others = self.models.Filter(must=[self._any(KIND, OTHERS)])
        return self.count() - self.count(others)

    def scroll(
        self, condition: Any, *, vectors: bool = False, payload: Any = True, batch: int = 1024
    ) -> Iterator[Any]:
        """Every point that matches, in no useful order."""
        offset = None
        while True:
            with server_errors(self.settings):
                points, offset = self.client.scroll(
                    self.name,
                    scroll_filter=condition,
                    limit=batch,
                    offset=offset,
                    with_payload=payload,
                    with_vectors=[VECTOR] if vectors else False,
                )
            yield from points
            if offset is None:
                return

    def _payloads(self, condition: Any) -> list[dict[str, Any]]:
        return [dict(point.payload) for point in self.scroll(condition, batch=2)]  # a piece is 1.4 MB

    def _upsert(self, point: Any, *, update_mode: Any = None) -> None:
        with server_errors(self.settings):
            self.client.upsert(self.name, points=[point], wait=True, update_mode=update_mode)

    def _equals(self, field: str, value: object) -> Any:
        return self.models.FieldCondition(key=field, match=self.models.MatchValue(value=value))

    def _any(self, field: str, values: list[Any]) -> Any:
        return self.models.FieldCondition(key=field, match=self.models.MatchAny(any=values))

    def _create(self, width: int) -> None:
        m, chosen = self.models, self.settings
        vector = m.VectorParams(
            size=width,
            distance=m.Distance.DOT,  # of unit vectors: the cosine
            datatype=m.Datatype(chosen.datatype),
            on_disk=chosen.on_disk,
        )
        try:
            self.client.create_collection(
                self.name,
                vectors_config={VECTOR: vector},
                shard_number=chosen.shard_number,
                replication_factor=chosen.replication_factor,
                write_consistency_factor=chosen.write_consistency_factor,
                on_disk_payload=True,
                hnsw_config=m.HnswConfigDiff(
                    m=0,  # no graph while loading: it is built once, at the end
                    ef_construct=chosen.ef_construct,
                    full_scan_threshold=chosen.full_scan_threshold,
                    on_disk=chosen.graph_on_disk,
                ),
                quantization_config=quantization_config(m, chosen),
            )
        except Exception:
            if not self.client.collection_exists(self.name):  # another shard of the build was faster
                raise

    def _index_payload(self, m: Any) -> None:
        if self.in_memory:
            return
        for field, kind in INDEXED.items():
            schema = m.PayloadSchemaType(kind)
            if kind == "integer":  # asked for equality alone; the ranges' index would be 40 bytes a point
                schema = m.IntegerIndexParams(type=m.IntegerIndexType.INTEGER, lookup=True, range=False)
            self.client.create_payload_index(self.name, field, field_schema=schema, wait=True)


class CollectionFiles:
    """The files in a collection, as ``SharedFiles``."""

    def __init__(self, collection: Collection) -> None:
        self._collection = collection

    def get(self, name: str) -> bytes | None:
        """A file's content, None where it is not there."""
        there = any(file.name == name for file in self._collection.files(name))
        return self._collection.get_file(name) if there else None

    def put(self, name: str, content: bytes) -> None:
        """Keep a file, unless somebody was faster: then theirs stays."""
        self._collection.put_file(name, content, first_wins=True)
