"""A server index over gRPC, against a loopback stub: request shapes, batches, repetitions, refusals.

``QdrantStub`` is no Qdrant: it keeps points in a dictionary and knows the few requests that are sent here.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest

pytest.importorskip("qdrant_client")
import grpc
from qdrant_client import grpc as q

from retrieval import Filter, ImageRecord, IndexSettings, Manifest, create_index, open_index, read_images
from retrieval.edit.convert import convert_index
from retrieval.engines.qdrant import collection as collection_module
from retrieval.engines.qdrant import connection, locate
from retrieval.engines.qdrant.server import ServerIndex
from retrieval.engines.qdrant.settings import QdrantSettings
from retrieval.errors import (
    ConfigError,
    IndexDamagedError,
    IndexFileError,
    IndexMismatchError,
    MissingExtraError,
    MyceliaError,
    ServerError,
)

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
            ),
            wal_config=q.WalConfigDiff(wal_capacity_mb=32, wal_segments_ahead=0),
            metadata=stored.metadata,
        )
        status = self.statuses.pop(0) if self.statuses else q.CollectionStatus.Green
        count = len(self.points[request.collection_name])
        info = q.CollectionInfo(config=config, status=status, points_count=count, indexed_vectors_count=count)
        return q.GetCollectionInfoResponse(result=info)

    def Get(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self._get_collection(request, context)

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
            hits = [q.ScoredPoint(id=found[i].id, payload=found[i].payload, score=scores[i]) for i in best]
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


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[QdrantStub]:
    monkeypatch.delenv(connection.KEY_VARIABLE, raising=False)
    monkeypatch.setattr(collection_module, "_POLL", 0.0)
    monkeypatch.setattr(connection, "_FIRST_PAUSE", 0.01)
    running = QdrantStub()
    yield running
    running.server.stop(0)


def settings_for(stub: QdrantStub, **changes: Any) -> QdrantSettings:
    url = "http://127.0.0.1:6333"  # REST, which is not asked
    return QdrantSettings(url=url, grpc_port=stub.port, collection="bank", **{"timeout": 20, **changes})


def fill(stub: QdrantStub, folder: Path, manifest: Manifest, bank: Any, **changes: Any) -> ServerIndex:
    index = ServerIndex.create(folder, manifest, settings_for(stub, **changes))
    index.describe(RECORDS)
    index.add(bank.vectors, bank.labels, bank.patches)
    return index


def test_a_whole_life(tmp_path: Path, stub: QdrantStub, manifest: Callable[..., Manifest], bank: Any) -> None:
    stub.statuses = []
    settings = IndexSettings(engine="qdrant", qdrant=settings_for(stub))
    with create_index(tmp_path / "index", manifest(), rows=300, settings=settings) as index:
        index.describe(RECORDS)
        index.add(bank.vectors, bank.labels, bank.patches)
        index.flush(images=RECORDS)
    oracle_settings = IndexSettings(engine="exact", dtype="float32")
    with create_index(tmp_path / "exact", manifest(), rows=300, settings=oracle_settings) as oracle:
        oracle.add(bank.vectors, bank.labels, bank.patches)
        with open_index(tmp_path / "index") as index:
            assert len(index) == 300 and index.manifest.counts["rows"] == 300
            for filter in (None, Filter(images=[2, 3], not_classes=[1]), Filter(datasets=["toy"])):
                wanted, found = (i.search(bank.queries, 9, filter=filter) for i in (oracle, index))
                np.testing.assert_allclose(found.similarities, wanted.similarities, atol=2e-6)
                np.testing.assert_array_equal(index.patches(found.ids), oracle.patches(wanted.ids))
                np.testing.assert_array_equal(found.labels, wanted.labels)
            assert index.remove(3) == 30
            index.flush(images=[replace(record, removed=record.number == 3) for record in RECORDS])
    with open_index(tmp_path / "index") as index:
        assert len(index) == 270
        assert index.manifest.counts == {"images": 10, "rows": 300, "removed": 30}
    assert convert_index(tmp_path / "index", tmp_path / "back", settings=oracle_settings) == 270


def test_the_collection_is_made_for_loading(
    tmp_path: Path, stub: QdrantStub, manifest: Callable[..., Manifest], bank: Any
) -> None:
    chosen = {"shard_number": 6, "replication_factor": 2, "write_consistency_factor": 2, "on_disk": True}
    index = fill(
        stub, tmp_path, manifest(), bank, m=24, quantization="scalar", oversampling=3.0, ef=99, **chosen
    )
    stub.statuses = [q.CollectionStatus.Green] * 4 + [q.CollectionStatus.Yellow] * 2
    index.flush(images=RECORDS)
    index.search(bank.queries, 5)
    index.close()
    (create,) = stub.named("Create")
    assert (
        create.shard_number == 6 and create.replication_factor == 2 and create.write_consistency_factor == 2
    )
    params = create.vectors_config.params_map.map["patch"]
    assert params.distance == q.Distance.Dot and params.datatype == q.Datatype.Float16 and params.on_disk
    assert create.quantization_config.scalar.always_ram
    order = [name for name, _ in stub.calls]
    assert order.index("CreateFieldIndex") < order.index("Upsert")
    assert {r.field_name for r in stub.named("CreateFieldIndex")} == {
        "image",
        "class",
        "dataset",
        "kind",
    }
    graphs = [r.hnsw_config.m for r in stub.named("Update") if r.hnsw_config.HasField("m")]
    assert graphs == [24]  # on, once, after the last patch
    assert max(i for i, name in enumerate(order) if name == "Upsert") < len(order)
    query = stub.named("QueryBatch")[0].query_points[0]
    assert query.params.hnsw_ef == 99 and query.params.quantization.oversampling == 3.0
    assert query.params.quantization.rescore
    assert list(query.with_payload.include.fields) == ["image", "row", "col", "label"]


def test_graph_is_off_while_loading_and_waited_for(
    tmp_path: Path, stub: QdrantStub, manifest: Callable[..., Manifest], bank: Any
) -> None:
    index = fill(stub, tmp_path, manifest(), bank)
    assert stub.collections["bank"].hnsw_config.m == 0
    stub.statuses = [q.CollectionStatus.Green] * 2 + [q.CollectionStatus.Yellow] * 3
    heard: list[tuple[int, int]] = []
    index.finish(lambda done, total: heard.append((done, total)))
    assert len(heard) == 6 and not stub.statuses  # one green that was premature, three yellow, two green
    stub.statuses = [q.CollectionStatus.Green, q.CollectionStatus.Red]
    with pytest.raises(ServerError, match="cannot optimise"):
        index.finish()
    index.close()


def test_requests_are_bounded(
    tmp_path: Path, stub: QdrantStub, manifest: Callable[..., Manifest], bank: Any
) -> None:
    index = fill(stub, tmp_path, manifest(), bank, batch_bytes=20_000, query_batch=5)
    uploads = [r for r in stub.named("Upsert") if len(r.points) > 1]
    assert len(uploads) > 5 and max(r.ByteSize() for r in uploads) < 20_000
    assert all(r.wait for r in uploads)
    index.search(bank.queries, 3)
    assert [len(r.query_points) for r in stub.named("QueryBatch")] == [5, 5, 2]
    index.close()


def test_points_are_bounded(
    tmp_path: Path, stub: QdrantStub, manifest: Callable[..., Manifest], bank: Any
) -> None:
    fill(stub, tmp_path, manifest(), bank, batch_points=100).close()
    assert [len(r.points) for r in stub.named("Upsert")] == [100, 100, 100]


def test_passing_failures_are_repeated(
    tmp_path: Path, stub: QdrantStub, manifest: Callable[..., Manifest], bank: Any
) -> None:
    code = grpc.StatusCode
    stub.refusals = {"Upsert": [code.UNAVAILABLE, code.ABORTED], "QueryBatch": [code.UNAVAILABLE]}
    index = fill(stub, tmp_path, manifest(), bank)
    assert len(index) == 300
    assert (index.search(bank.queries, 3).ids >= 0).all()
    index.close()


def test_a_broken_upload_is_completed_by_doing_it_again(
    tmp_path: Path, stub: QdrantStub, manifest: Callable[..., Manifest], bank: Any
) -> None:
    stub.refusals = {"Upsert": []}
    index = ServerIndex.create(tmp_path, manifest(), settings_for(stub, batch_points=100))
    index.describe(RECORDS)
    index.add(bank.vectors[:200], bank.labels[:200], bank.patches[:200])
    stub.refusals["Upsert"] = [grpc.StatusCode.UNAVAILABLE] * 5
    with pytest.raises(ServerError, match="run again finishes"):
        index.add(bank.vectors[200:], bank.labels[200:], bank.patches[200:])
    index.close()
    again = fill(stub, tmp_path, manifest(), bank)
    assert len(again) == 300
    again.close()


def test_a_slow_server_is_named(
    tmp_path: Path, stub: QdrantStub, manifest: Callable[..., Manifest], bank: Any
) -> None:
    index = fill(stub, tmp_path, manifest(), bank, timeout=1)
    stub.delay["QueryBatch"] = 1.3
    with pytest.raises(ServerError, match=r"did not answer within 1 s; raise index\.qdrant\.timeout"):
        index.search(bank.queries, 3)
    index.close()


def test_a_server_that_is_away(tmp_path: Path, stub: QdrantStub, manifest: Callable[..., Manifest]) -> None:
    stub.server.stop(0).wait()
    with pytest.raises(ServerError, match=r"no Qdrant server answers at http://127\.0\.0\.1:6333"):
        ServerIndex.create(tmp_path, manifest(), settings_for(stub, attempts=2))
    assert not (tmp_path / "manifest.json").exists()


@pytest.mark.filterwarnings("ignore:Api key is used with an insecure connection")
def test_a_wrong_key_is_not_shown(
    tmp_path: Path,
    stub: QdrantStub,
    manifest: Callable[..., Manifest],
    bank: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stub.key = "right-one"
    with pytest.raises(ServerError, match="QDRANT_API_KEY, which is not set"):
        ServerIndex.create(tmp_path, manifest(), settings_for(stub))
    monkeypatch.setenv("QDRANT_API_KEY", "wrong-secret")
    with pytest.raises(ServerError, match="refuses the key") as caught:
        ServerIndex.create(tmp_path, manifest(), settings_for(stub))
    assert "wrong-secret" not in str(caught.value) and caught.value.__cause__ is None
    monkeypatch.setenv("QDRANT_API_KEY", "right-one")
    index = fill(stub, tmp_path, manifest(), bank)
    index.flush(images=RECORDS)
    index.close()
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"right-one" not in written
    assert "right-one" not in str(stub.collections) + str(stub.points)


@pytest.mark.filterwarnings("ignore:Api key is used with an insecure connection")
def test_details_with_the_key_are_cleaned(
    tmp_path: Path, stub: QdrantStub, manifest: Callable[..., Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QDRANT_API_KEY", "told")
    stub.refusals = {"CollectionExists": [grpc.StatusCode.INTERNAL]}
    with pytest.raises(ServerError) as caught:
        ServerIndex.create(tmp_path, manifest(), settings_for(stub))
    assert "told" not in str(caught.value) and "***" in str(caught.value)


def test_collections_of_others_are_refused(
    tmp_path: Path, stub: QdrantStub, manifest: Callable[..., Manifest], bank: Any
) -> None:
    fill(stub, tmp_path, manifest(), bank).close()
    for change in ({"recipe": {"seed": 4}}, {"dataset": {"name": "zoo"}}, {"fingerprints": {"weights": "x"}}):
        with pytest.raises(IndexMismatchError, match="another recipe"):
            ServerIndex.create(tmp_path, replace(manifest(), **change), settings_for(stub))
    wider = replace(manifest(), similarity=replace(manifest().similarity, width=64))
    with pytest.raises(IndexMismatchError, match="vectors of 32 numbers, and this recipe makes 64"):
        ServerIndex.create(tmp_path, wider, settings_for(stub))
    assert len(stub.points["bank"]) == 300
    elsewhere = replace(manifest(), recipe={"seed": 3, "index": {}, "runtime": {"device": "cuda"}})
    ServerIndex.create(tmp_path, elsewhere, settings_for(stub)).close()


def test_a_collection_that_is_gone(
    tmp_path: Path, stub: QdrantStub, manifest: Callable[..., Manifest], bank: Any
) -> None:
    index = fill(stub, tmp_path, manifest(), bank)
    index.flush(images=RECORDS)
    index.close()
    del stub.collections["bank"]
    with pytest.raises(IndexFileError, match="has no collection 'bank'"):
        open_index(tmp_path)


def test_shards_fill_one_collection(
    tmp_path: Path,
    stub: QdrantStub,
    manifest: Callable[..., Manifest],
    bank: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Three builders, one of them twice and overlapping; a reader with nothing but the address."""
    stub.keeps_metadata = False  # an older server

    def run(number: int) -> None:
        folder = tmp_path / f"shard {number}"
        folder.mkdir(exist_ok=True)
        (folder / "features.safetensors").write_bytes(
            b"tensors of the first" if number == 1 else b"of another"
        )
        index = ServerIndex.create(folder, manifest(), settings_for(stub))
        index.shard = (number, 3)
        own = [record for record in RECORDS if record.number % 3 == number - 1]
        index.describe(own)
        chosen = np.isin(bank.patches[:, 0], [record.number for record in own])
        index.add(bank.vectors[chosen], bank.labels[chosen], bank.patches[chosen])
        index.flush(images=own)
        index.close()

    monkeypatch.setattr(locate, "user_cache_path", lambda name: tmp_path / "cache")
    address = f"qdrant://127.0.0.1:{stub.port - 1}/bank"
    for number in (1, 2, 2):
        run(number)
    with pytest.raises(IndexDamagedError, match="not complete"):
        open_index(address)
    assert stub.collections["bank"].hnsw_config.m == 0
    run(3)
    assert stub.collections["bank"].hnsw_config.m == 16
    for name in (address, Path(address)):
        with open_index(name) as index:
            assert len(index) == index.manifest.counts["rows"] == 300
            assert index.manifest.counts["images"] == 10
            assert (index.search(bank.queries, 4).ids >= 0).all()
    (folder,) = (tmp_path / "cache" / "collections").iterdir()
    assert sorted(record.id for record in read_images(folder)) == sorted(record.id for record in RECORDS)
    assert (folder / "features.safetensors").read_bytes() == b"tensors of the first"


def test_files_are_whole_or_not_there(
    tmp_path: Path, stub: QdrantStub, manifest: Callable[..., Manifest], bank: Any
) -> None:
    index = fill(stub, tmp_path, manifest(), bank)
    content = np.random.default_rng(0).bytes(2_500_000)
    index.collection.put_file("big", content)
    assert index.collection.get_file("big") == content
    assert max(r.ByteSize() for r in stub.named("Upsert")) < 5_000_000
    sent = len(stub.named("Upsert"))
    index.collection.put_file("big", content)
    assert len(stub.named("Upsert")) == sent  # it is there already
    piece = next(k for k, p in stub.points["bank"].items() if "data" in p.payload)
    del stub.points["bank"][piece]
    with pytest.raises(IndexDamagedError, match="no whole file big"):
        index.collection.get_file("big")
    assert len(index) == 300
    index.close()


@pytest.mark.parametrize(
    "url", ["http://user:secret@host:6333", "http://host:6333/?api-key=secret", "ftp://host", "host:6333"]
)
def test_urls_with_secrets_or_without_sense_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match="url"):
        QdrantSettings(url=url)


@pytest.mark.parametrize("address", ["qdrant://host", "qdrant://key:secret@host/x", "qdrant://host/a/b"])
def test_bad_addresses(address: str) -> None:
    with pytest.raises(ConfigError, match="no address of a collection") as caught:
        connection.parse_address(address)
    assert "secret" not in str(caught.value)


def test_addresses() -> None:
    local = connection.parse_address("qdrant://host:7000/bank")
    assert (local.url, local.grpc_port, local.collection) == ("http://host:7000", 7001, "bank")
    remote = connection.parse_address(Path("qdrants://host/bank"))
    assert (remote.url, remote.grpc_port, remote.collection) == ("https://host:6333", 6334, "bank")
    assert not connection.is_address("qdrant.index") and not connection.is_address("/qdrant://x")


def test_the_extra_is_named(
    tmp_path: Path, manifest: Callable[..., Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "qdrant_client", None)
    with pytest.raises(MissingExtraError, match=r"mycelia\[qdrant\]"):
        ServerIndex.create(tmp_path, manifest(), QdrantSettings(url="http://127.0.0.1:9", collection="bank"))


def test_a_name_is_needed(tmp_path: Path, manifest: Callable[..., Manifest]) -> None:
    settings = IndexSettings(engine="qdrant", qdrant=QdrantSettings(url="http://127.0.0.1:1"))
    with pytest.raises(ConfigError, match=r"index\.qdrant\.collection=NAME"):
        create_index(tmp_path / "index", manifest(), rows=1, settings=settings)


def test_manifest_of_the_folder_has_no_surprise(
    tmp_path: Path, stub: QdrantStub, manifest: Callable[..., Manifest], bank: Any
) -> None:
    index = fill(stub, tmp_path, manifest(), bank)
    index.flush(images=RECORDS)
    index.close()
    data = json.loads((tmp_path / "manifest.json").read_text())
    data["engine"]["datatype"] = "float8"
    broken = replace(Manifest.from_json(data), engine=data["engine"])
    with pytest.raises(IndexDamagedError, match="datatype"):
        ServerIndex.open(tmp_path, broken)
    assert issubclass(IndexDamagedError, MyceliaError)


def test_a_server_that_goes_away(
    tmp_path: Path, stub: QdrantStub, manifest: Callable[..., Manifest], bank: Any
) -> None:
    index = fill(stub, tmp_path, manifest(), bank)
    stub.server.stop(0).wait()
    with pytest.raises(ServerError, match="no Qdrant server answers"):
        index.search(bank.queries, 3)
    index.close()


@pytest.mark.parametrize(
    ("status", "kind", "text"),
    [
        (401, ServerError, "QDRANT_API_KEY"),
        (403, ServerError, "QDRANT_API_KEY"),
        (404, IndexFileError, "no collection 'bank'"),
        (500, ServerError, "no Qdrant server answers"),
        (400, ServerError, "failed"),
    ],
)
def test_refusals_over_rest(
    tmp_path: Path, manifest: Callable[..., Manifest], status: int, kind: type[Exception], text: str
) -> None:
    """A stub that refuses everything, over plain HTTP."""

    class Refusing(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(b"refused")

        def log_message(self, *arguments: object) -> None:
            """Keep the tests' output quiet."""

    server = HTTPServer(("127.0.0.1", 0), Refusing)
    Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    try:
        with pytest.raises(kind, match=text):
            ServerIndex.create(tmp_path, manifest(), QdrantSettings(url=url, collection="bank", grpc=False))
    finally:
        server.shutdown()
        server.server_close()


def test_rest_without_a_server(tmp_path: Path, manifest: Callable[..., Manifest]) -> None:
    settings = QdrantSettings(url="http://127.0.0.1:9", collection="bank", grpc=False, attempts=1)
    with pytest.raises(ServerError, match=r"no Qdrant server answers at http://127\.0\.0\.1:9:"):
        ServerIndex.create(tmp_path, manifest(), settings)
