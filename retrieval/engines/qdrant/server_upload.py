"""How rows get into a collection: over gRPC as its own messages, two requests at a time."""

from __future__ import annotations

import importlib
from collections import deque
from collections.abc import Iterable

from retrieval.engines.qdrant import wire
from retrieval.engines.qdrant.by_client import upload_by_client
from retrieval.engines.qdrant.collection import VECTOR, Collection
from retrieval.engines.qdrant.in_order import in_order
from retrieval.engines.qdrant.payload import Points


def upload(collection: Collection, blocks: Iterable[Points]) -> None:
    """Upload rows, one request a block, and wait until the server has them.

    What was uploaded before an error stays. Raises as ``Collection.ask``.
    """
    if not collection.speaks_grpc:
        for block in blocks:
            upload_by_client(collection, block)
        return
    q = importlib.import_module("qdrant_client.grpc")
    messages = (wire.upsert(q, collection.name, VECTOR, block) for block in blocks)
    deque(in_order(lambda message: collection.ask("Upsert", message), messages), maxlen=0)
