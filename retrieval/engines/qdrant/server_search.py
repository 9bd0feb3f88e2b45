"""How a server is asked for neighbours: without payload where their labels are known here."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from retrieval.engines.qdrant import wire
from retrieval.engines.qdrant.collection import VECTOR, Collection
from retrieval.engines.qdrant.in_order import in_order
from retrieval.engines.qdrant.label_table import KeyedRows, LabelTable, bytes_per_row
from retrieval.engines.qdrant.server_requests import filter_condition, search_params
from retrieval.neighbors import Filter, Neighbors

#: Fewer queries at a time bring their payloads: the look at the collection's state would cost as much.
_FEW = 4

#: Points whose payloads are asked for in one request.
_FETCHED = 2048


@dataclass
class _Found:
    """Hits of some queries, one query after the other: ``counts`` (Q,), the rest (n,), labels (n, C).

    ``unknown`` are the numbers of hits whose ids and labels are still to come, with ``keys`` and ``points``.
    """

    counts: npt.NDArray[np.int64]
    similarities: npt.NDArray[np.float32]
    ids: npt.NDArray[np.int64]
    labels: npt.NDArray[np.uint8]
    unknown: npt.NDArray[np.int64]
    keys: npt.NDArray[np.uint64]
    points: list[str]


class ServerSearch:
    """Searches of a reader in a collection, over gRPC, two requests at a time.

    Hits come without payload; row ids and labels are looked up in a :class:`LabelTable`, and those that
    are not there are fetched, once. After the last answer the collection's state is read: writers announce
    a change before its first row, so all that was found holds where the state is that of the table.
    Where it is not, where the table would be too large and where queries are few, hits bring their payloads.
    """

    def __init__(self, collection: Collection) -> None:
        self._collection = collection
        self._settings = collection.settings
        self._messages: Any = importlib.import_module("qdrant_client.grpc")
        self._table: LabelTable | None = None

    def find(
        self, queries: npt.NDArray[np.float32], k: int, filter: Filter, *, classes: int, rows: int
    ) -> Neighbors:
        """The ``k`` nearest rows of queries (Q, D) float32; ``rows`` is about how many there are.

        Raises IndexDamagedError for a point that is no patch, and as ``Collection.ask``.
        """
        asked = self._shared(k, filter)
        if len(queries) >= _FEW and rows * bytes_per_row(classes) <= self._settings.label_table * 1_000_000:
            found = self._by_table(queries, asked, classes)
            if found is not None:
                return _neighbors(found, k)
        return _neighbors(self._by_payload(queries, asked, classes), k)

    def _by_payload(self, queries: npt.NDArray[np.float32], asked: dict[str, Any], classes: int) -> _Found:
        def decode(answer: Any) -> _Found:
            hits = wire.hits_of(answer, payload=True)
            with self._patches_only():
                ids, labels = wire.decode_payloads(hits.payloads, classes)
            return _Found(hits.counts, hits.similarities, ids, labels, *_nothing())

        return self._ask(queries, {**asked, "payload": True}, decode, classes)

    def _by_table(
        self, queries: npt.NDArray[np.float32], asked: dict[str, Any], classes: int
    ) -> _Found | None:
        """What is found, or None where the collection has changed or is changing."""
        table = self._table
        if table is None or table.classes != classes or table.is_of_a_change:
            table = self._table = LabelTable(classes, self._collection.state())
            if table.is_of_a_change:
                return None

        def look_up(answer: Any) -> _Found:
            hits = wire.hits_of(answer, payload=False)
            with self._patches_only():
                keys = wire.keys_of(hits.points)
            known, ids, labels = table.find(keys)
            unknown = np.flatnonzero(~known)
            points = [hits.points[number] for number in unknown.tolist()]
            return _Found(hits.counts, hits.similarities, ids, labels, unknown, keys[unknown], points)

        found = self._ask(queries, {**asked, "payload": False}, look_up, classes)
        fetched = self._fetch(found, classes)
        state = self._collection.state()
        if state != table.state:
            self._table = LabelTable(classes, state)
            return None
        if not _complete(found, fetched):
            return None  # somebody else has deleted points
        table.add(fetched)
        if len(table) * bytes_per_row(classes) > self._settings.label_table * 1_000_000:
            self._table = None
        return found

    def _fetch(self, found: _Found, classes: int) -> KeyedRows:
        """The rows that are still unknown, each once."""
        first = np.unique(found.keys, return_index=True)[1].tolist()
        points = [found.points[number] for number in first]
        messages = (
            wire.get_points(self._messages, self._collection.name, points[start : start + _FETCHED])
            for start in range(0, len(points), _FETCHED)
        )
        keys, ids, labels = [np.empty(0, np.uint64)], [np.empty(0, np.int64)], [_no_labels(classes)]
        for answer in in_order(lambda message: self._collection.ask("Get", message), messages):
            with self._patches_only():
                decoded = wire.decode_payloads([point.payload for point in answer.result], classes)
                keys.append(wire.keys_of([point.id.uuid for point in answer.result]))
            ids.append(decoded[0])
            labels.append(decoded[1])
        all_keys = np.concatenate(keys)
        order = np.argsort(all_keys)
        return KeyedRows(all_keys[order], np.concatenate(ids)[order], np.concatenate(labels)[order])

    def _shared(self, k: int, filter: Filter) -> dict[str, Any]:
        """What all queries of a search have in common, as messages."""
        convert = importlib.import_module("qdrant_client.conversions.conversion").RestToGrpc
        models = self._collection.models
        condition = filter_condition(models, filter)
        return {
            "vector": VECTOR,
            "k": k,
            "condition": None if condition is None else convert.convert_filter(condition),
            "params": convert.convert_search_params(search_params(models, self._settings, k)),
        }

    def _ask(
        self,
        queries: npt.NDArray[np.float32],
        asked: dict[str, Any],
        read: Callable[[Any], _Found],
        classes: int,
    ) -> _Found:
        """What ``read`` makes of the answers to all queries, some queries a request."""
        step = self._settings.query_batch
        messages: Iterator[Any] = (
            wire.query_batch(self._messages, self._collection.name, queries[start : start + step], **asked)
            for start in range(0, len(queries), step)
        )
        parts = list(in_order(lambda message: read(self._collection.ask("QueryBatch", message)), messages))
        return _joined(parts, classes)

    @contextmanager
    def _patches_only(self) -> Iterator[None]:
        """Turn a ValueError into what it means: a point that is no patch."""
        try:
            yield
        except ValueError as error:
            raise self._collection.no_patch(error) from error


def _no_labels(classes: int) -> npt.NDArray[np.uint8]:
    return np.empty((0, classes), dtype=np.uint8)


def _nothing() -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint64], list[str]]:
    return np.empty(0, np.int64), np.empty(0, np.uint64), []


def _joined(parts: Sequence[_Found], classes: int) -> _Found:
    unknown, start = [_nothing()[0]], 0
    for part in parts:
        unknown.append(part.unknown + start)
        start += len(part.ids)
    return _Found(
        np.concatenate([np.empty(0, np.int64), *(part.counts for part in parts)]),
        np.concatenate([np.empty(0, np.float32), *(part.similarities for part in parts)]),
        np.concatenate([np.empty(0, np.int64), *(part.ids for part in parts)]),
        np.concatenate([_no_labels(classes), *(part.labels for part in parts)]),
        np.concatenate(unknown),
        np.concatenate([np.empty(0, np.uint64), *(part.keys for part in parts)]),
        [point for part in parts for point in part.points],
    )


def _complete(found: _Found, fetched: KeyedRows) -> bool:
    """Fill in what was unknown; False where something is missing."""
    if len(found.unknown) == 0:
        return True
    if len(fetched) == 0:
        return False
    place = np.minimum(np.searchsorted(fetched.keys, found.keys), len(fetched) - 1)
    if (fetched.keys[place] != found.keys).any():
        return False
    found.ids[found.unknown], found.labels[found.unknown] = fetched.ids[place], fetched.labels[place]
    return True


def _neighbors(found: _Found, k: int) -> Neighbors:
    """Hits in a table of k columns; what is missing is at the end of each row."""
    queries = len(found.counts)
    rows = np.repeat(np.arange(queries), found.counts)
    columns = np.arange(len(rows)) - np.repeat(np.cumsum(found.counts) - found.counts, found.counts)
    similarities = np.full((queries, k), -np.inf, dtype=np.float32)
    ids = np.full((queries, k), -1, dtype=np.int64)
    labels = np.zeros((queries, k, found.labels.shape[1]), dtype=np.uint8)
    similarities[rows, columns] = found.similarities
    ids[rows, columns] = found.ids
    labels[rows, columns] = found.labels
    return Neighbors(ids, similarities, labels)
