"""Searches and uploads as gRPC's own messages: qdrant-client's models cost more than the server's work.

``q`` is ``qdrant_client.grpc``, imported by the caller.
"""

from __future__ import annotations

import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from retrieval.engines.qdrant.payload import COL, FOUND, IMAGE, LABEL, ROW, Points, pack_ids

#: Hex digits of a point's id.
_DIGITS = 32


@dataclass(frozen=True)
class Hits:
    """What a request of Q queries found, n hits one query after the other.

    ``counts`` (Q,) int64, ``points`` n ids (UUIDs), ``similarities`` (n,) float32; ``payloads`` n, or empty.
    """

    counts: npt.NDArray[np.int64]
    points: list[str]
    similarities: npt.NDArray[np.float32]
    payloads: list[Any]


def query_batch(
    q: Any,
    collection: str,
    queries: npt.NDArray[np.float32],
    *,
    vector: str,
    k: int,
    condition: Any,
    params: Any,
    payload: bool,
) -> Any:
    """The message that asks for the ``k`` nearest of queries (Q, D), with messages for the rest."""
    asked = q.QueryPoints(
        collection_name=collection,
        using=vector,
        limit=k,
        filter=condition,
        params=params,
        with_payload=_selector(q, payload),
    )
    message = q.QueryBatchPoints(collection_name=collection)
    for query in queries.tolist():
        one = message.query_points.add()
        one.CopyFrom(asked)
        one.query.nearest.dense.data.extend(query)
    return message


def hits_of(answer: Any, *, payload: bool) -> Hits:
    """The hits in an answer to :func:`query_batch`."""
    found = [batch.result for batch in answer.result]
    return Hits(
        np.array([len(hits) for hits in found], dtype=np.int64),
        [hit.id.uuid for hits in found for hit in hits],
        np.array([hit.score for hits in found for hit in hits], dtype=np.float32),
        [hit.payload for hits in found for hit in hits] if payload else [],
    )


def get_points(q: Any, collection: str, points: Sequence[str]) -> Any:
    """The message that asks for the payloads of points by their ids."""
    ids = [q.PointId(uuid=point) for point in points]
    return q.GetPoints(collection_name=collection, ids=ids, with_payload=_selector(q, True))


def upsert(q: Any, collection: str, vector: str, points: Points) -> Any:
    """The message that uploads rows, and asks to be answered when they can be found."""
    message = q.UpsertPoints(collection_name=collection, wait=True)
    for id, numbers, payload in zip(points.ids, points.vectors.tolist(), points.payloads, strict=True):
        point = message.points.add()
        point.id.uuid = id
        point.vectors.vectors.vectors[vector].dense.data.extend(numbers)
        for name, value in payload.items():
            if isinstance(value, str):
                point.payload[name].string_value = value
            else:
                point.payload[name].integer_value = value
    return message


def keys_of(points: Sequence[str]) -> npt.NDArray[np.uint64]:
    """64-bit keys of points' ids: both halves of the UUID, one over the other.

    Raises ValueError for an id that is no UUID, which no patch has.
    """
    digits = "".join(points).replace("-", "")
    if len(digits) != _DIGITS * len(points):
        raise ValueError("an id that is no UUID")
    halves = np.frombuffer(bytes.fromhex(digits), dtype=">u8").reshape(-1, 2)
    keys: npt.NDArray[np.uint64] = (halves[:, 0] ^ halves[:, 1]).astype(np.uint64)
    return keys


def decode_payloads(
    payloads: Sequence[Any], classes: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8]]:
    """Row ids (n,) int64 and soft labels (n, C) uint8 of patches; raises ValueError for what is no patch.

    A label of fewer classes is from before the others were added.
    """
    places = np.array(
        [[_integer(payload, name) for name in (IMAGE, ROW, COL)] for payload in payloads], dtype=np.int32
    ).reshape(-1, 3)
    labels = [binascii.a2b_base64(_text(payload, LABEL)) for payload in payloads]
    longest = max(map(len, labels), default=0)
    if longest > classes:
        raise ValueError(f"a label of {longest} classes where {classes} were expected")
    joined = b"".join(label.ljust(classes, b"\0") for label in labels)
    return pack_ids(places), np.frombuffer(joined, dtype=np.uint8).reshape(len(labels), classes)


def _selector(q: Any, payload: bool) -> Any:
    if not payload:
        return q.WithPayloadSelector(enable=False)
    return q.WithPayloadSelector(include=q.PayloadIncludeSelector(fields=FOUND))


def _integer(payload: Any, name: str) -> int:
    if name not in payload or not payload[name].HasField("integer_value"):
        raise ValueError(f"no whole number {name!r}")
    return int(payload[name].integer_value)


def _text(payload: Any, name: str) -> str:
    if name not in payload or not payload[name].HasField("string_value"):
        raise ValueError(f"no text {name!r}")
    return str(payload[name].string_value)
