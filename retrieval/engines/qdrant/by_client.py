"""Searches and uploads in qdrant-client's own models: over REST, and in its in-memory store."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from retrieval.engines.qdrant.collection import VECTOR, Collection
from retrieval.engines.qdrant.connection import server_errors
from retrieval.engines.qdrant.payload import COL, FOUND, IMAGE, LABEL, ROW, Points, decode_label, pack_ids
from retrieval.engines.qdrant.server_requests import filter_condition, search_params
from retrieval.neighbors import Filter, Neighbors


def search_by_client(
    collection: Collection, queries: npt.NDArray[np.float32], k: int, filter: Filter, *, classes: int
) -> Neighbors:
    """The ``k`` nearest rows of queries (Q, D) that ``filter`` lets through; every hit brings its payload."""
    similarities = np.full((len(queries), k), -np.inf, dtype=np.float32)
    patches = np.full((len(queries), k, 3), -1, dtype=np.int32)
    labels = np.zeros((len(queries), k, classes), dtype=np.uint8)
    m, settings = collection.models, collection.settings
    shared = {
        "using": VECTOR,
        "limit": k,
        "filter": filter_condition(m, filter),
        "with_payload": FOUND,
        "params": None if collection.in_memory else search_params(m, settings, k),
    }
    for start in range(0, len(queries), settings.query_batch):
        block = queries[start : start + settings.query_batch].tolist()
        requests = [m.QueryRequest(query=query, **shared) for query in block]
        with server_errors(settings):
            answers = collection.client.query_batch_points(collection.name, requests=requests)
        for row, answer in enumerate(answers, start):
            for column, point in enumerate(answer.points):
                similarities[row, column] = point.score
                place, label = decode_patch(collection, point.payload, classes)
                patches[row, column], labels[row, column] = place, label
    ids = np.where(patches[..., 0] < 0, -1, pack_ids(np.maximum(patches, 0)))
    return Neighbors(ids, similarities, labels)


def upload_by_client(collection: Collection, points: Points) -> None:
    """Upload rows, in one request."""
    vectors = {VECTOR: points.vectors.tolist()}
    batch = collection.models.Batch(ids=points.ids, vectors=vectors, payloads=points.payloads)
    with server_errors(collection.settings):
        collection.client.upsert(collection.name, points=batch, wait=True)


def decode_patch(
    collection: Collection, payload: dict[str, Any], classes: int
) -> tuple[tuple[int, int, int], npt.NDArray[np.uint8]]:
    """Image number, row and column of a patch, and its label (C,); raises IndexDamagedError for none."""
    try:
        place = (int(payload[IMAGE]), int(payload[ROW]), int(payload[COL]))
        return place, decode_label(payload[LABEL], classes)
    except (KeyError, TypeError, ValueError) as error:
        raise collection.no_patch(error) from error
