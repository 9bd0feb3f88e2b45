"""What a collection on a server holds, from the first upload to the last shard, against a loopback stub."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("qdrant_client")
from qdrant_client import grpc as q

from retrieval import Filter, IndexSettings, Manifest, create_index, open_index, read_images
from retrieval.edit.convert import convert_index
from retrieval.engines.qdrant.server import ServerIndex
from retrieval.engines.qdrant.spec import SERVER
from retrieval.errors import IndexDamagedError, MyceliaError, ServerError
from retrieval.store.commit import IndexFiles

from .stub import RECORDS, QdrantStub, fill, settings_for


def test_a_whole_life(tmp_path: Path, stub: QdrantStub, manifest: Callable[..., Manifest], bank: Any) -> None:
    stub.statuses = []
    settings = IndexSettings(engine="qdrant", qdrant=settings_for(stub))
    with create_index(tmp_path / "index", manifest(), rows=300, settings=settings) as index:
        index.announce(RECORDS)
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
    assert not query.with_payload.enable and not query.with_payload.HasField("include")
    fetched = stub.named("GetPoints")[1]  # between two looks at the collection's state
    assert list(fetched.with_payload.include.fields) == ["image", "row", "col", "label"]


def test_graph_is_off_while_loading_and_waited_for(
    tmp_path: Path, stub: QdrantStub, manifest: Callable[..., Manifest], bank: Any
) -> None:
    index = fill(stub, tmp_path, manifest(), bank)
    assert stub.collections["bank"].hnsw_config.m == 0
    stub.statuses = [q.CollectionStatus.Green] * 2 + [q.CollectionStatus.Yellow] * 3
    heard: list[tuple[int, int]] = []
    index.collection.finish(lambda done, total: heard.append((done, total)))
    assert len(heard) == 6 and not stub.statuses  # one green that was premature, three yellow, two green
    stub.statuses = [q.CollectionStatus.Green, q.CollectionStatus.Red]
    with pytest.raises(ServerError, match="cannot optimise"):
        index.collection.finish()
    index.close()


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
        index = ServerIndex.create(IndexFiles(folder), manifest(), settings_for(stub), share=(number, 3))
        own = [record for record in RECORDS if record.number % 3 == number - 1]
        index.announce(own)
        chosen = np.isin(bank.patches[:, 0], [record.number for record in own])
        index.add(bank.vectors[chosen], bank.labels[chosen], bank.patches[chosen])
        index.flush(images=own)
        index.close()

    monkeypatch.setenv("MYCELIA_CACHE", str(tmp_path / "cache"))
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
        ServerIndex.open(IndexFiles(tmp_path, broken), broken)
    assert issubclass(IndexDamagedError, MyceliaError)


@pytest.mark.parametrize(
    ("vectors", "threshold", "said"),
    [
        (300, None, "all 300 vectors"),
        (304, 10_000, "all 300 vectors"),
        (100, 10_000, "100 of 300 vectors; of the server's segments, those below 10,000 KB of vectors are"),
        (0, None, "0 of 300 vectors; of the server's segments, small ones are searched without one"),
    ],
)
def test_the_graph_in_words(
    tmp_path: Path,
    stub: QdrantStub,
    manifest: Callable[..., Manifest],
    bank: Any,
    vectors: int,
    threshold: int | None,
    said: str,
) -> None:
    stub.indexed, stub.threshold = vectors, threshold
    with fill(stub, tmp_path, manifest(), bank) as index:
        assert "off until" in SERVER.facts(index)["graph"]
        index.flush(images=RECORDS)
        assert SERVER.facts(index)["graph"].startswith(said)
