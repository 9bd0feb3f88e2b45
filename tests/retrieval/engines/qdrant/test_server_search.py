"""Searches without payload: what the reader knows of rows never outlives a change of theirs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from retrieval import ClassInfo, ClassMap, Filter, Manifest, Neighbors, open_index
from retrieval.errors import IndexDamagedError, ServerError
from retrieval.store.commit import IndexFiles

pytest.importorskip("qdrant_client")
import grpc

from retrieval.engines.qdrant.server import ServerIndex

from .stub import RECORDS, QdrantStub, fill, settings_for


@pytest.fixture
def reader(
    stub: QdrantStub, manifest: Callable[..., Manifest], bank: Any, tmp_path: Path
) -> Iterator[ServerIndex]:
    with fill(stub, tmp_path / "index", manifest(), bank) as index:
        index.flush(images=RECORDS)
    with open_index(tmp_path / "index") as opened:
        assert isinstance(opened, ServerIndex)
        stub.calls.clear()
        yield opened


@pytest.fixture
def writer(
    stub: QdrantStub, manifest: Callable[..., Manifest], reader: ServerIndex, tmp_path: Path
) -> Iterator[ServerIndex]:
    """Somebody else, who has the same collection and another folder."""
    with ServerIndex.create(IndexFiles(tmp_path / "other"), manifest(), settings_for(stub)) as index:
        yield index


def same(found: Neighbors, wanted: Neighbors) -> None:
    np.testing.assert_array_equal(found.ids, wanted.ids)
    np.testing.assert_array_equal(found.similarities, wanted.similarities)
    np.testing.assert_array_equal(found.labels, wanted.labels)


def with_payload(stub: QdrantStub) -> list[bool]:
    return [r.query_points[0].with_payload.HasField("include") for r in stub.named("QueryBatch")]


def by_payload(index: ServerIndex, queries: Any, k: int, filter: Filter | None = None) -> Neighbors:
    """One query at a time: so few bring their payloads."""
    found = [index.search(query[None], k, filter=filter) for query in queries]
    parts = [np.concatenate([getattr(f, n) for f in found]) for n in ("ids", "similarities", "labels")]
    return Neighbors(*parts)


@pytest.mark.parametrize("filter", [None, Filter(images=[2, 3], not_classes=[1]), Filter(images=[99])])
def test_both_ways_find_the_same(
    reader: ServerIndex, stub: QdrantStub, bank: Any, filter: Filter | None
) -> None:
    wanted = by_payload(reader, bank.queries, 40, filter)
    assert all(with_payload(stub))
    for _ in range(2):
        stub.calls.clear()
        same(reader.search(bank.queries, 40, filter=filter), wanted)
        assert with_payload(stub) == [False]
    assert [len(r.ids) for r in stub.named("GetPoints")] == [1]  # nothing but the state is asked for


def test_each_point_is_fetched_once(reader: ServerIndex, stub: QdrantStub, bank: Any) -> None:
    first = reader.search(bank.queries[:6], 30)
    again = reader.search(bank.queries, 30)
    fetched = [id.uuid for r in stub.named("GetPoints") if len(r.ids) > 1 for id in r.ids]
    assert len(fetched) == len(set(fetched)) == len(np.unique(again.ids))
    np.testing.assert_array_equal(again.ids[:6], first.ids)


def test_labels_that_another_writer_changes_are_seen_before_he_is_done(
    reader: ServerIndex, writer: ServerIndex, stub: QdrantStub, bank: Any
) -> None:
    before = reader.search(bank.queries, 30)
    other = np.ascontiguousarray(bank.labels[:, ::-1])
    assert (other != bank.labels).any()
    writer.announce(RECORDS)
    writer.add(bank.vectors, other, bank.patches)
    for _ in range(2):
        stub.calls.clear()
        during = reader.search(bank.queries, 30)
        np.testing.assert_array_equal(during.labels, before.labels[..., ::-1])
        assert with_payload(stub)[-1]
    assert with_payload(stub) == [True]  # a change that is known to be on is not tried twice
    writer.flush(images=RECORDS)
    for _ in range(2):
        stub.calls.clear()
        same(reader.search(bank.queries, 30), during)
    assert with_payload(stub) == [False]


def test_a_change_in_the_middle_of_a_search_is_noticed(
    reader: ServerIndex, writer: ServerIndex, stub: QdrantStub, bank: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader.search(bank.queries, 30)
    other = np.ascontiguousarray(bank.labels[:, ::-1])
    writer.announce(RECORDS)
    enter, done = stub._enter, threading.Event()

    def change_first(method: str, request: Any, context: Any) -> None:
        if method == "QueryBatch" and not done.is_set():
            done.set()
            writer.add(bank.vectors, other, bank.patches)
            writer.flush(images=RECORDS)
        enter(method, request, context)

    monkeypatch.setattr(stub, "_enter", change_first)
    found = reader.search(bank.queries, 30)
    same(found, by_payload(reader, bank.queries, 30))


def test_points_that_vanish_unannounced_are_no_hits(
    reader: ServerIndex, stub: QdrantStub, bank: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    enter = stub._enter

    def drop(method: str, request: Any, context: Any) -> None:
        if method == "GetPoints" and len(request.ids) > 1:
            stub.points["bank"].pop(request.ids[0].uuid)
        enter(method, request, context)

    monkeypatch.setattr(stub, "_enter", drop)
    found = reader.search(bank.queries, 30)
    same(found, by_payload(reader, bank.queries, 30))
    assert with_payload(stub)[:2] == [False, True]


@pytest.mark.parametrize("limit", [0, 1])
def test_a_bank_too_large_for_a_table_brings_its_payload(
    stub: QdrantStub, manifest: Callable[..., Manifest], bank: Any, tmp_path: Path, limit: int
) -> None:
    with fill(stub, tmp_path, manifest(), bank, label_table=limit) as index:
        index.flush(images=RECORDS)
        if limit:
            index.manifest = replace(index.manifest, counts={"rows": 10**6})
        wanted = by_payload(index, bank.queries, 9)
        stub.calls.clear()
        same(index.search(bank.queries, 9), wanted)
        assert with_payload(stub) == [True] and not stub.named("GetPoints")


def test_many_classes_and_labels_of_many_classes(
    stub: QdrantStub, manifest: Callable[..., Manifest], bank: Any, tmp_path: Path
) -> None:
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 2, (300, 40), dtype=np.uint8) * (rng.random((300, 1)) < 0.5)
    labels[:, 0] = 200
    classes = ClassMap(tuple(ClassInfo(i, f"class {i}", (i, i, i)) for i in range(40)))
    described = replace(manifest(), classes=classes)
    with fill(stub, tmp_path, described, replace(bank, labels=labels)) as index:
        index.flush(images=RECORDS)
        for _ in range(2):
            found = index.search(bank.queries, 20)
            wanted = by_payload(index, bank.queries, 20)
            same(found, wanted)
        places = index.patches(found.ids)
        by_place = {tuple(p): label for p, label in zip(bank.patches.tolist(), labels, strict=True)}
        expected = [[by_place[tuple(p)] for p in row] for row in places.tolist()]
        np.testing.assert_array_equal(found.labels, expected)


@pytest.mark.parametrize("spoil", ["label", "row"])
@pytest.mark.parametrize("queries", [1, 12])
def test_a_point_that_is_no_patch_is_named(
    reader: ServerIndex, stub: QdrantStub, bank: Any, spoil: str, queries: int
) -> None:
    for point in stub.points["bank"].values():
        if spoil in point.payload:
            del point.payload[spoil]
    with pytest.raises(IndexDamagedError, match=f"a point that is no patch .*{spoil}"):
        reader.search(bank.queries[:queries], 30)


def test_two_requests_are_under_way_and_answers_are_in_order(
    stub: QdrantStub,
    manifest: Callable[..., Manifest],
    bank: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with fill(stub, tmp_path, manifest(), bank, query_batch=1) as index:
        index.flush(images=RECORDS)
        wanted = by_payload(index, bank.queries, 9)
        both, enter, count, lock = threading.Barrier(2), stub._enter, [0], threading.Lock()

        def enter_together(method: str, request: Any, context: Any) -> None:
            if method == "QueryBatch":
                both.wait(timeout=10)  # broken unless two come
                with lock:
                    count[0] += 1
                    late = count[0] % 2
                time.sleep(0.02 * late)
            enter(method, request, context)

        monkeypatch.setattr(stub, "_enter", enter_together)
        same(index.search(bank.queries, 9), wanted)


def test_an_error_in_the_second_request_is_one_sentence(
    stub: QdrantStub,
    manifest: Callable[..., Manifest],
    bank: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = settings_for(stub, batch_points=50, query_batch=3)
    index = ServerIndex.create(IndexFiles(tmp_path), manifest(), settings)
    index.announce(RECORDS)
    enter, refused = stub._enter, {"Upsert": 0, "QueryBatch": 0}

    def refuse_second(method: str, request: Any, context: Any) -> None:
        if method in refused and (method != "Upsert" or len(request.points) > 1):
            refused[method] += 1
            if refused[method] == 2:
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the second one")
        enter(method, request, context)

    monkeypatch.setattr(stub, "_enter", refuse_second)
    with pytest.raises(ServerError, match=r"failed \(INVALID_ARGUMENT: the second one\)") as caught:
        index.add(bank.vectors, bank.labels, bank.patches)
    assert "\n" not in str(caught.value) and caught.value.__cause__ is None
    stored = len(stub.points["bank"]) - 1
    assert 50 <= stored <= 150
    time.sleep(0.05)
    assert len(stub.points["bank"]) - 1 == stored  # nothing arrives behind the error
    index.add(bank.vectors, bank.labels, bank.patches)
    index.flush(images=RECORDS)
    with pytest.raises(ServerError, match="the second one") as caught:
        index.search(bank.queries, 9)
    assert "\n" not in str(caught.value)
    index.close()
