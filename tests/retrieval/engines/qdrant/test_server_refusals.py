"""What a server index refuses before it writes, and what no error may show: keys, addresses, collections."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("qdrant_client")
import grpc

from retrieval import IndexSettings, Manifest, create_index, open_index
from retrieval.engines.qdrant import connection
from retrieval.engines.qdrant.server import ServerIndex
from retrieval.engines.qdrant.settings import QdrantSettings
from retrieval.errors import ConfigError, IndexFileError, IndexMismatchError, MissingExtraError, ServerError
from retrieval.store.commit import IndexFiles

from .stub import RECORDS, QdrantStub, fill, settings_for


def test_a_wrong_key_is_not_shown(
    tmp_path: Path,
    stub: QdrantStub,
    manifest: Callable[..., Manifest],
    bank: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stub.key = "right-one"
    with pytest.raises(ServerError, match="QDRANT_API_KEY, which is not set"):
        ServerIndex.create(IndexFiles(tmp_path), manifest(), settings_for(stub))
    monkeypatch.setenv("QDRANT_API_KEY", "wrong-secret")
    with pytest.raises(ServerError, match="refuses the key") as caught:
        ServerIndex.create(IndexFiles(tmp_path), manifest(), settings_for(stub))
    assert "wrong-secret" not in str(caught.value) and caught.value.__cause__ is None
    monkeypatch.setenv("QDRANT_API_KEY", "right-one")
    index = fill(stub, tmp_path, manifest(), bank)
    index.flush(images=RECORDS)
    index.close()
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"right-one" not in written
    assert "right-one" not in str(stub.collections) + str(stub.points)


def test_details_with_the_key_are_cleaned(
    tmp_path: Path, stub: QdrantStub, manifest: Callable[..., Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QDRANT_API_KEY", "told")
    stub.refusals = {"CollectionExists": [grpc.StatusCode.INTERNAL]}
    with pytest.raises(ServerError) as caught:
        ServerIndex.create(IndexFiles(tmp_path), manifest(), settings_for(stub))
    assert "told" not in str(caught.value) and "***" in str(caught.value)


def test_collections_of_others_are_refused(
    tmp_path: Path, stub: QdrantStub, manifest: Callable[..., Manifest], bank: Any
) -> None:
    fill(stub, tmp_path, manifest(), bank).close()
    for change in ({"recipe": {"seed": 4}}, {"dataset": {"name": "zoo"}}, {"fingerprints": {"weights": "x"}}):
        with pytest.raises(IndexMismatchError, match="another recipe"):
            ServerIndex.create(IndexFiles(tmp_path), replace(manifest(), **change), settings_for(stub))
    wider = replace(manifest(), similarity=replace(manifest().similarity, width=64))
    with pytest.raises(IndexMismatchError, match="vectors of 32 numbers, and this recipe makes 64"):
        ServerIndex.create(IndexFiles(tmp_path), wider, settings_for(stub))
    assert len(stub.points["bank"]) == 301  # and one that tells of changes
    elsewhere = replace(manifest(), recipe={"seed": 3, "index": {}, "runtime": {"device": "cuda"}})
    ServerIndex.create(IndexFiles(tmp_path), elsewhere, settings_for(stub)).close()


def test_a_collection_that_is_gone(
    tmp_path: Path, stub: QdrantStub, manifest: Callable[..., Manifest], bank: Any
) -> None:
    index = fill(stub, tmp_path, manifest(), bank)
    index.flush(images=RECORDS)
    index.close()
    del stub.collections["bank"]
    with pytest.raises(IndexFileError, match="has no collection 'bank'"):
        open_index(tmp_path)


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
    assert (local.url, local.grpc_port_of("http://host:7000")) == ("http://host:7000", 7001)
    assert local.collection == "bank"
    remote = connection.parse_address(Path("qdrants://host/bank"))
    assert (remote.url, remote.grpc_port_of("https://host:6333")) == ("https://host:6333", 6334)
    assert remote.collection == "bank"
    assert not connection.is_address("qdrant.index") and not connection.is_address("/qdrant://x")


@pytest.mark.parametrize(
    ("url", "port"),
    [("http://host:7100", 7101), ("https://host", 6334), ("http://[::1]:80", 81), (":memory:", 6334)],
)
def test_the_port_of_grpc_follows_that_of_rest(url: str, port: int) -> None:
    assert QdrantSettings(url=url).grpc_port_of(url) == port
    assert QdrantSettings(url=url, grpc_port=9000).grpc_port_of(url) == 9000


def test_an_error_names_the_port_that_was_asked(tmp_path: Path, manifest: Callable[..., Manifest]) -> None:
    settings = QdrantSettings(url="http://127.0.0.1:1", collection="bank", timeout=1, attempts=1)
    with pytest.raises(ServerError, match=r"127\.0\.0\.1:1 \(gRPC port 2\)"):
        ServerIndex.create(IndexFiles(tmp_path), manifest(), settings)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://far:6333", True),
        ("http://127.0.0.1:6333", False),
        ("http://localhost:6333", False),
        ("http://[::1]:6333", False),
        ("https://far:6333", False),
    ],
)
def test_a_key_that_can_be_read_on_its_way_is_said_once(
    url: str, said: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Warnings are errors here: the client's own would fail it."""
    monkeypatch.setenv("QDRANT_API_KEY", "secret")
    connection._say_plain.cache_clear()
    for _ in range(2):
        connection.connect(QdrantSettings(url=url, collection="bank")).close()
    told = [record.getMessage() for record in caplog.records if "unencrypted" in record.getMessage()]
    assert len(told) == said
    assert "secret" not in caplog.text


def test_the_extra_is_named(
    tmp_path: Path, manifest: Callable[..., Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "qdrant_client", None)
    with pytest.raises(MissingExtraError, match=r"mycelia\[qdrant\]"):
        ServerIndex.create(
            IndexFiles(tmp_path), manifest(), QdrantSettings(url="http://127.0.0.1:9", collection="bank")
        )


def test_a_name_is_needed(tmp_path: Path, manifest: Callable[..., Manifest]) -> None:
    settings = IndexSettings(engine="qdrant", qdrant=QdrantSettings(url="http://127.0.0.1:1"))
    with pytest.raises(ConfigError, match=r"index\.qdrant\.collection=NAME"):
        create_index(tmp_path / "index", manifest(), rows=1, settings=settings)
