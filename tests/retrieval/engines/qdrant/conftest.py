from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from retrieval.engines.qdrant import collection as collection_module
from retrieval.engines.qdrant import connection


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    pytest.importorskip("qdrant_client")
    from .stub import QdrantStub

    monkeypatch.delenv(connection.KEY_VARIABLE, raising=False)
    monkeypatch.setattr(collection_module, "_POLL", 0.0)
    monkeypatch.setattr(connection, "_FIRST_PAUSE", 0.01)
    running = QdrantStub()
    yield running
    running.server.stop(0)
