"""The table of labels by points' keys, and requests two at a time."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from retrieval.engines.qdrant.in_order import UNDER_WAY, in_order
from retrieval.engines.qdrant.label_table import KeyedRows, LabelTable, bytes_per_row
from retrieval.engines.qdrant.payload import State
from retrieval.engines.qdrant.wire import keys_of


def some_labels(rng: Any, count: int, classes: int, entries: int) -> Any:
    labels = np.zeros((count, classes), dtype=np.uint8)
    for row in labels:
        row[rng.choice(classes, entries, replace=False)] = rng.integers(1, 256, entries)
    return labels


@pytest.mark.parametrize(("classes", "entries"), [(4, 2), (32, 20), (33, 8), (150, 3), (300, 8)])
def test_what_is_added_is_found(classes: int, entries: int) -> None:
    rng = np.random.default_rng(0)
    keys = rng.permutation(np.unique(rng.integers(0, 2**64, 3000, dtype=np.uint64)))
    ids, labels = np.arange(len(keys)) + 7, some_labels(rng, len(keys), classes, entries)
    table = LabelTable(classes, None)
    assert not table.find(keys)[0].any()
    for start in (0, 1000, 1100, 1150, 2000):  # overlapping: what is known stays
        part = np.sort(rng.permutation(np.arange(start, min(start + 1200, len(keys)))))
        order = part[np.argsort(keys[part])]
        table.add(KeyedRows(keys[order], ids[order], labels[order]))
    assert len(table) == len(keys)
    asked = rng.permutation(len(keys))[:500]
    known, found_ids, found_labels = table.find(keys[asked])
    assert known.all()
    np.testing.assert_array_equal(found_ids, ids[asked])
    np.testing.assert_array_equal(found_labels, labels[asked])
    assert not table.find(np.setdiff1d(np.arange(50, dtype=np.uint64), keys))[0].any()


def test_labels_that_would_lose_something_are_left_out() -> None:
    rng = np.random.default_rng(0)
    labels = np.concatenate([some_labels(rng, 5, 100, 9), some_labels(rng, 5, 100, 8)])
    table = LabelTable(100, None)
    table.add(KeyedRows(np.arange(10, dtype=np.uint64), np.arange(10), labels))
    assert table.find(np.arange(10, dtype=np.uint64))[0].tolist() == [False] * 5 + [True] * 5


def test_bytes_of_a_row() -> None:
    assert [bytes_per_row(classes) for classes in (2, 32, 33, 256, 257)] == [22, 52, 36, 36, 44]


def test_a_table_of_a_change_says_so() -> None:
    assert LabelTable(2, State("x", True)).is_of_a_change
    assert not LabelTable(2, State("x", False)).is_of_a_change and not LabelTable(2, None).is_of_a_change


def test_keys_are_both_halves_of_an_id() -> None:
    ids = [str(uuid.uuid5(uuid.NAMESPACE_URL, str(number))) for number in range(100)]
    whole = [uuid.UUID(id).int for id in ids]
    assert keys_of(ids).tolist() == [(number >> 64) ^ (number & (2**64 - 1)) for number in whole]
    assert len(keys_of([])) == 0
    with pytest.raises(ValueError, match="no UUID"):
        keys_of([ids[0], ""])


def test_answers_come_in_order_and_no_more_than_two_are_under_way() -> None:
    lock, now, most, made = threading.Lock(), 0, 0, 0

    def requests() -> Iterator[int]:
        nonlocal made
        for number in range(12):
            made += 1
            yield number

    def call(number: int) -> int:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.02 if number % 2 == 0 else 0)
        with lock:
            now -= 1
        return number * number

    got = []
    for answer in in_order(call, requests()):
        got.append(answer)
        assert made <= len(got) + UNDER_WAY
    assert got == [number * number for number in range(12)] and most == UNDER_WAY


def test_after_an_error_nothing_more_is_sent() -> None:
    sent = []

    def call(number: int) -> int:
        sent.append(number)
        if number == 1:
            raise KeyError(number)
        return number

    got = []
    with pytest.raises(KeyError):
        for answer in in_order(call, range(100)):
            got.append(answer)
    assert got == [0] and len(sent) <= 4
    assert threading.active_count() == len(threading.enumerate())
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("qdrant")]


def test_one_request_needs_no_thread() -> None:
    assert list(in_order(lambda _: threading.current_thread(), [0])) == [threading.current_thread()]
    assert list(in_order(str, [])) == []
