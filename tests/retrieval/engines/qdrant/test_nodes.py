"""Several addresses of a cluster, with one node dead: two stubs over the same points stand for two nodes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from retrieval import IndexSettings, Manifest, create_index, open_index
from retrieval.engines.qdrant import nodes as nodes_module
from retrieval.engines.qdrant.connection import parse_address
from retrieval.engines.qdrant.nodes import Nodes
from retrieval.engines.qdrant.settings import QdrantSettings
from retrieval.errors import ConfigError, ServerError
from retrieval.store.commit import IndexFiles

pytest.importorskip("qdrant_client")

from retrieval.engines.qdrant.server import ServerIndex

from .stub import RECORDS, QdrantStub


@pytest.fixture
def pair(stub: QdrantStub) -> Iterator[tuple[QdrantStub, QdrantStub]]:
    """Two nodes of one cluster."""
    other = QdrantStub()
    other.collections, other.points = stub.collections, stub.points
    yield stub, other
    other.server.stop(0)


def urls(pair: tuple[QdrantStub, ...]) -> str:
    return ",".join(f"http://127.0.0.1:{node.port - 1}" for node in pair)


def address(pair: tuple[QdrantStub, ...]) -> str:
    return f"qdrant://{','.join(f'127.0.0.1:{node.port - 1}' for node in pair)}/bank"


def build(
    pair: tuple[QdrantStub, ...], folder: Path, manifest: Manifest, bank: Any, **changes: Any
) -> ServerIndex:
    settings = QdrantSettings(url=urls(pair), collection="bank", **{"timeout": 20, **changes})
    index = ServerIndex.create(IndexFiles(folder), manifest, settings)
    index.announce(RECORDS)
    index.add(bank.vectors, bank.labels, bank.patches)
    return index


@pytest.mark.parametrize("dead", [0, 1])
def test_a_node_that_is_dead_from_the_start(
    pair: tuple[QdrantStub, QdrantStub],
    tmp_path: Path,
    manifest: Callable[..., Manifest],
    bank: Any,
    monkeypatch: pytest.MonkeyPatch,
    dead: int,
) -> None:
    monkeypatch.setenv("MYCELIA_CACHE", str(tmp_path / "cache"))
    pair[dead].server.stop(0).wait()
    with build(pair, tmp_path / "index", manifest(), bank) as index:
        index.flush(images=RECORDS)
        wanted = index.search(bank.queries, 9)
    for where in (tmp_path / "index", address(pair)):
        with open_index(where) as index:
            found = index.search(bank.queries, 9)
            np.testing.assert_array_equal(found.ids, wanted.ids)
            np.testing.assert_array_equal(found.labels, wanted.labels)
            assert len(index) == 300
    assert not pair[dead].calls


def test_a_node_that_dies_between_searches(
    pair: tuple[QdrantStub, QdrantStub], tmp_path: Path, manifest: Callable[..., Manifest], bank: Any
) -> None:
    with build(pair, tmp_path, manifest(), bank, query_batch=2) as index:
        index.flush(images=RECORDS)
        wanted = index.search(bank.queries, 9)
        assert not pair[1].calls  # the first address is the one that is asked
        pair[0].server.stop(0).wait()
        for _ in range(2):
            found = index.search(bank.queries, 9)
            np.testing.assert_array_equal(found.ids, wanted.ids)
        assert {name for name, _ in pair[1].calls} >= {"QueryBatch", "GetPoints"}
        assert index.remove(3) == 30 and len(index) == 270


def test_an_upload_goes_on_at_the_next_node(
    pair: tuple[QdrantStub, QdrantStub],
    tmp_path: Path,
    manifest: Callable[..., Manifest],
    bank: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    enter, count, lock = pair[0]._enter, [0], threading.Lock()

    def die_at_the_third(method: str, request: Any, context: Any) -> None:
        enter(method, request, context)
        if method == "Upsert" and len(request.points) > 1:
            with lock:
                count[0] += 1
            if count[0] == 3:  # what it is sent is stored, and not answered
                pair[0].server.stop(0).wait(timeout=5)

    monkeypatch.setattr(pair[0], "_enter", die_at_the_third)
    with build(pair, tmp_path, manifest(), bank, batch_points=25) as index:
        assert len(index) == 300
        index.flush(images=RECORDS)
        assert len(index) == index.manifest.counts["rows"] == 300
    sent = [len(r.points) for node in pair for r in node.named("Upsert") if len(r.points) > 1]
    assert sum(sent) > 300 and len(pair[1].named("Upsert")) > 2  # some twice, which is once


def test_none_answers(
    pair: tuple[QdrantStub, QdrantStub], tmp_path: Path, manifest: Callable[..., Manifest], bank: Any
) -> None:
    with build(pair, tmp_path, manifest(), bank) as index:
        for node in pair:
            node.server.stop(0).wait()
        with pytest.raises(ServerError) as caught:
            index.search(bank.queries, 9)
    text = str(caught.value)
    named = " or ".join(f"http://127.0.0.1:{node.port - 1} (gRPC port {node.port})" for node in pair)
    assert text.startswith(f"no Qdrant server answers at {named}: ") and "\n" not in text


def test_a_node_that_hangs(
    pair: tuple[QdrantStub, QdrantStub], tmp_path: Path, manifest: Callable[..., Manifest], bank: Any
) -> None:
    with build(pair, tmp_path, manifest(), bank, timeout=1) as index:
        pair[0].delay["QueryBatch"] = 1.3
        assert (index.search(bank.queries, 9).ids >= 0).all()
        assert len(pair[1].named("QueryBatch")) == 1


def test_a_wrong_key_is_not_tried_elsewhere(
    pair: tuple[QdrantStub, QdrantStub], tmp_path: Path, manifest: Callable[..., Manifest]
) -> None:
    pair[0].key = "right"
    settings = IndexSettings(engine="qdrant", qdrant=QdrantSettings(url=urls(pair), collection="bank"))
    with pytest.raises(ServerError, match="refuses the key"):
        create_index(tmp_path / "index", manifest(), rows=1, settings=settings)
    assert not pair[1].calls


class Refusing:
    """A client that fails as often as it is told to."""

    def __init__(self, failures: list[Exception]) -> None:
        self.failures = failures
        self.closed = False

    def count(self, name: str, *, exact: bool) -> str:
        if self.failures:
            raise self.failures.pop(0)
        return f"{name} {exact}"

    def close(self) -> None:
        self.closed = True


def test_rounds_and_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    paused: list[float] = []

    def sleep(seconds: float) -> None:
        paused.append(seconds)
        now[0] += seconds

    monkeypatch.setattr(nodes_module.time, "sleep", sleep)
    monkeypatch.setattr(nodes_module.time, "monotonic", lambda: now[0])

    def cluster(failures: int, **changes: Any) -> Nodes:
        paused.clear()
        clients = {name: Refusing([ConnectionError(name)] * failures) for name in "ab"}
        options = {"attempts": 4, "timeout": 100.0, "pause": 1.0, **changes}
        return Nodes("ab", clients.__getitem__, passing=lambda e: isinstance(e, ConnectionError), **options)

    assert cluster(2).count("x", exact=True) == "x True"
    assert paused == [1.0, 3.0]
    with pytest.raises(ConnectionError, match="b"):
        cluster(9).count("x", exact=True)
    assert paused == [1.0, 3.0, 9.0]
    with pytest.raises(ConnectionError):
        cluster(9, timeout=5.0).count("x", exact=True)
    assert paused == [1.0, 3.0]
    with pytest.raises(TypeError):
        cluster(0).count("x")
    assert not paused


def test_connections_are_made_when_they_are_needed_and_closed() -> None:
    made: list[Refusing] = []

    def connect(name: str) -> Refusing:
        made.append(Refusing([]))
        return made[-1]

    nodes = Nodes("abc", connect, passing=lambda error: True, attempts=1, timeout=1.0, pause=0.0)
    assert not made
    nodes.count("x", exact=True)
    nodes.close()
    assert len(made) == 1 and made[0].closed


def test_a_list_in_a_recipe() -> None:
    written = yaml.safe_load("url: [http://a:6333/, 'https://[::1]:7000', http://a:6333]")
    settings = QdrantSettings(**written)
    assert settings.url == "http://a:6333,https://[::1]:7000"
    assert settings.urls == ("http://a:6333", "https://[::1]:7000")
    assert [settings.grpc_port_of(url) for url in settings.urls] == [6334, 7001]
    assert QdrantSettings(url="http://a, http://b").urls == ("http://a", "http://b")
    assert QdrantSettings().urls == ()
    assert QdrantSettings.model_validate(settings.model_dump(mode="json")) == settings


@pytest.mark.parametrize(
    "url", ["http://a,", "http://a,b:6333", ["http://a", 3], [], "http://a,http://k:s@b"]
)
def test_a_bad_one_of_several(url: Any) -> None:
    with pytest.raises(ValueError, match="url"):
        QdrantSettings(url=url)


def test_addresses_of_several_nodes() -> None:
    several = parse_address("qdrants://a:7000,b,[::1]:80/bank")
    assert several.urls == ("https://a:7000", "https://b:6333", "https://[::1]:80")
    assert [several.grpc_port_of(url) for url in several.urls] == [7001, 6334, 81]
    assert parse_address(Path("qdrant://a,b/bank")).urls == ("http://a:6333", "http://b:6333")


@pytest.mark.parametrize(
    "bad", ["qdrant://a,/bank", "qdrant://a,b:0/bank", "qdrant://a,b", "qdrant://a,k:s@b/x"]
)
def test_bad_addresses_of_several_nodes(bad: str) -> None:
    with pytest.raises(ConfigError, match="no address of a collection") as caught:
        parse_address(bad)
    assert "s@b" not in str(caught.value)
