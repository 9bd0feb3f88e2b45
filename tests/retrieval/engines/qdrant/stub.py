"""A stand-in for a Qdrant server over real gRPC on the loopback interface, and an index filled through it.

``QdrantStub`` is no Qdrant: it keeps points in a dictionary and knows the few requests that are sent here.
Imported by tests that have asked for ``qdrant_client`` before, and by the fixture ``stub``.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from qdrant_client import grpc as q

from retrieval import ImageRecord, Manifest
from retrieval.engines.qdrant.server import ServerIndex
from retrieval.engines.qdrant.settings import QdrantSettings
from retrieval.store.commit import IndexFiles

RECORDS = [ImageRecord(i, f"photo {i}", f"{i}.png", f"{i:064x}", 60, 50, 30) for i in range(10)]


class QdrantStub(q.PointsServicer, q.CollectionsServicer):
    """Just enough of a Qdrant node for these tests, over real gRPC."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.refusals: dict[str, list[grpc.StatusCode]] = {}
        self.delay: dict[str, float] = {}
        self.key: str | None = None
        self.keeps_metadata = True
        self.collections: dict[str, Any] = {}
        self.points: dict[str, dict[str, Any]] = {}
        self.statuses: list[Any] = []
        self.indexed: int | None = None
        self.threshold: int | None = None
        self.server = grpc.server(ThreadPoolExecutor(4))
        q.add_PointsServicer_to_server(self, self.server)
        q.add_CollectionsServicer_to_server(self, self.server)
        self.port = self.server.add_insecure_port("127.0.0.1:0")
        self.server.start()

    def named(self, method: str) -> list[Any]:
        return [request for name, request in self.calls if name == method]

    def _enter(self, method: str, request: Any, context: Any) -> None:
        self.calls.append((method, request))
        time.sleep(self.delay.get(method, 0))
        if self.key is not None and ("api-key", self.key) not in context.invocation_metadata():
            context.abort(
                grpc.StatusCode.UNAUTHENTICATED, f"wrong key: {dict(context.invocation_metadata())}"
            )
        if self.refusals.get(method):
            context.abort(self.refusals[method].pop(0), "the stub was told to refuse")
        known = method in ("CollectionExists", "Create") or request.collection_name in self.collections
        if not known:
            context.abort(grpc.StatusCode.NOT_FOUND, "no such collection")

    def CollectionExists(self, request: Any, context: Any) -> Any:  # noqa: N802
        self._enter("CollectionExists", request, context)
        exists = request.collection_name in self.collections
        return q.CollectionExistsResponse(result=q.CollectionExists(exists=exists))

    def Create(self, request: Any, context: Any) -> Any:  # noqa: N802
        self._enter("Create", request, context)
        self.collections[request.collection_name] = request
        self.points[request.collection_name] = {}
        return q.CollectionOperationResponse(result=True)

    def Update(self, request: Any, context: Any) -> Any:  # noqa: N802
        self._enter("Update", request, context)
        stored = self.collections[request.collection_name]
        stored.hnsw_config.MergeFrom(request.hnsw_config)
        if self.keeps_metadata:
            for name, value in request.metadata.items():
                stored.metadata[name].CopyFrom(value)
        return q.CollectionOperationResponse(result=True)

    def _get_collection(self, request: Any, context: Any) -> Any:
        self._enter("GetCollection", request, context)
        stored = self.collections[request.collection_name]
        config = q.CollectionConfig(
            params=q.CollectionParams(vectors_config=stored.vectors_config),
            hnsw_config=stored.hnsw_config,
            optimizer_config=q.OptimizersConfigDiff(
                deleted_threshold=0.2,
                vacuum_min_vector_number=1000,
                default_segment_number=0,
                flush_interval_sec=5,
                indexing_threshold=self.threshold,
            ),
            wal_config=q.WalConfigDiff(wal_capacity_mb=32, wal_segments_ahead=0),
            metadata=stored.metadata,
        )
        status = self.statuses.pop(0) if self.statuses else q.CollectionStatus.Green
        count = len(self.points[request.collection_name])
        indexed = count if self.indexed is None else self.indexed
        info = q.CollectionInfo(
            config=config, status=status, points_count=count, indexed_vectors_count=indexed
        )
        return q.GetCollectionInfoResponse(result=info)

    def Get(self, request: Any, context: Any) -> Any:  # noqa: N802
        if isinstance(request, q.GetPoints):  # both services have a method of this name
            return self._get_points(request, context)
        return self._get_collection(request, context)

    def _get_points(self, request: Any, context: Any) -> Any:
        self._enter("GetPoints", request, context)
        stored = self.points[request.collection_name]
        found = [stored[id.uuid] for id in request.ids if id.uuid in stored]
        return q.GetResponse(result=[q.RetrievedPoint(id=p.id, payload=p.payload) for p in found])

    def CreateFieldIndex(self, request: Any, context: Any) -> Any:  # noqa: N802
        self._enter("CreateFieldIndex", request, context)
        return self._done()

    def Upsert(self, request: Any, context: Any) -> Any:  # noqa: N802
        self._enter("Upsert", request, context)
        stored = self.points[request.collection_name]
        for point in request.points:
            if request.update_mode == q.UpdateMode.InsertOnly and point.id.uuid in stored:
                continue
            stored[point.id.uuid] = point
        return self._done()

    def Delete(self, request: Any, context: Any) -> Any:  # noqa: N802
        self._enter("Delete", request, context)
        stored = self.points[request.collection_name]
        for point in self._matching(request.collection_name, request.points.filter):
            del stored[point.id.uuid]
        return self._done()

    def Count(self, request: Any, context: Any) -> Any:  # noqa: N802
        self._enter("Count", request, context)
        found = self._matching(request.collection_name, request.filter)
        return q.CountResponse(result=q.CountResult(count=len(found)))

    def Scroll(self, request: Any, context: Any) -> Any:  # noqa: N802
        self._enter("Scroll", request, context)
        found = sorted(self._matching(request.collection_name, request.filter), key=lambda p: p.id.uuid)
        start = next((i for i, p in enumerate(found) if p.id == request.offset), 0)
        page, rest = found[start : start + request.limit], found[start + request.limit :]
        answer = q.ScrollResponse(result=[self._retrieved(point) for point in page])
        if rest:
            answer.next_page_offset.CopyFrom(rest[0].id)
        return answer

    def Facet(self, request: Any, context: Any) -> Any:  # noqa: N802
        self._enter("Facet", request, context)
        counts: dict[int, int] = {}
        for point in self.points[request.collection_name].values():
            if request.key in point.payload:
                value = point.payload[request.key].integer_value
                counts[value] = counts.get(value, 0) + 1
        hits = [q.FacetHit(value=q.FacetValue(integer_value=v), count=n) for v, n in counts.items()]
        return q.FacetResponse(hits=hits)

    def QueryBatch(self, request: Any, context: Any) -> Any:  # noqa: N802
        self._enter("QueryBatch", request, context)
        answers = []
        for query in request.query_points:
            found = [
                p
                for p in self._matching(request.collection_name, query.filter)
                if self._vector(p) is not None
            ]
            wanted = np.array(query.query.nearest.dense.data, dtype=np.float32)
            scores = np.array([self._vector(p) @ wanted for p in found])
            best = np.argsort(-scores, kind="stable")[: query.limit]
            shown = query.with_payload.enable or query.with_payload.HasField("include")
            payloads = [found[i].payload if shown else {} for i in best]
            hits = [
                q.ScoredPoint(id=found[i].id, payload=payload, score=scores[i])
                for i, payload in zip(best, payloads, strict=True)
            ]
            answers.append(q.BatchResult(result=hits))
        return q.QueryBatchResponse(result=answers)

    def _done(self) -> Any:
        return q.PointsOperationResponse(
            result=q.UpdateResult(operation_id=1, status=q.UpdateStatus.Completed)
        )

    def _vector(self, point: Any) -> Any:
        vectors = point.vectors.vectors.vectors
        return np.array(vectors["patch"].dense.data, dtype=np.float32) if "patch" in vectors else None

    def _retrieved(self, point: Any) -> Any:
        answer = q.RetrievedPoint(id=point.id, payload=point.payload)
        vector = self._vector(point)
        if vector is not None:
            dense = q.VectorOutput(dense=q.DenseVector(data=vector.tolist()))
            answer.vectors.CopyFrom(q.VectorsOutput(vectors=q.NamedVectorsOutput(vectors={"patch": dense})))
        return answer

    def _matching(self, collection: str, wanted: Any) -> list[Any]:
        def holds(point: Any, condition: Any) -> bool:
            field = condition.field
            if field.key not in point.payload:
                return False
            value = point.payload[field.key]
            kind = field.match.WhichOneof("match_value")
            known = getattr(field.match, kind)
            if kind in ("integer", "keyword"):
                return bool(known == (value.integer_value if kind == "integer" else value.string_value))
            values = list(known.integers) if kind == "integers" else list(known.strings)
            return (value.integer_value if kind == "integers" else value.string_value) in values

        return [
            point
            for point in self.points[collection].values()
            if all(holds(point, c) for c in wanted.must) and not any(holds(point, c) for c in wanted.must_not)
        ]


def settings_for(stub: QdrantStub, **changes: Any) -> QdrantSettings:
    url = "http://127.0.0.1:6333"  # REST, which is not asked
    return QdrantSettings(url=url, grpc_port=stub.port, collection="bank", **{"timeout": 20, **changes})


def fill(stub: QdrantStub, folder: Path, manifest: Manifest, bank: Any, **changes: Any) -> ServerIndex:
    index = ServerIndex.create(IndexFiles(folder), manifest, settings_for(stub, **changes))
    index.announce(RECORDS)
    index.add(bank.vectors, bank.labels, bank.patches)
    return index
