"""Requests to a server: how large they are, what is sent again, and what is said when it stays away."""

from __future__ import annotations

from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

pytest.importorskip("qdrant_client")
import grpc

from retrieval import Manifest
from retrieval.engines.qdrant.server import ServerIndex
from retrieval.engines.qdrant.settings import QdrantSettings
from retrieval.errors import IndexFileError, ServerError
from retrieval.store.commit import IndexFiles

from .stub import RECORDS, QdrantStub, fill, settings_for


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
    announced, *uploads = [len(r.points) for r in stub.named("Upsert")]
    assert announced == 1 and uploads == [100, 100, 100]


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
    index = ServerIndex.create(IndexFiles(tmp_path), manifest(), settings_for(stub, batch_points=100))
    index.announce(RECORDS)
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
        ServerIndex.create(IndexFiles(tmp_path), manifest(), settings_for(stub, attempts=2))
    assert not (tmp_path / "manifest.json").exists()


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
            ServerIndex.create(
                IndexFiles(tmp_path), manifest(), QdrantSettings(url=url, collection="bank", grpc=False)
            )
    finally:
        server.shutdown()
        server.server_close()


def test_rest_without_a_server(tmp_path: Path, manifest: Callable[..., Manifest]) -> None:
    settings = QdrantSettings(url="http://127.0.0.1:9", collection="bank", grpc=False, attempts=1)
    with pytest.raises(ServerError, match=r"no Qdrant server answers at http://127\.0\.0\.1:9:"):
        ServerIndex.create(IndexFiles(tmp_path), manifest(), settings)
