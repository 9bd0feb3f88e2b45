"""Stages side by side give what they give one after the other, and stop cleanly wherever they are left."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Generator, Iterator

import pytest
import torch

from segmentation.pipeline import ahead, behind


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


def numbers(stop: int, *, seen: list[int], bad: int | None = None) -> Generator[int, None, None]:
    try:
        for number in range(stop):
            if number == bad:
                raise ValueError(f"no {bad}")
            seen.append(number)
            yield number
    finally:
        seen.append(-1)


@pytest.mark.parametrize("stop", [0, 1, 2, 50])
def test_ahead_gives_the_same_items(stop: int) -> None:
    seen: list[int] = []
    assert list(ahead(ahead(numbers(stop, seen=seen)))) == list(range(stop))
    assert seen == [*range(stop), -1]


def test_ahead_is_one_item_ahead_and_not_more() -> None:
    seen: list[int] = []
    items = ahead(numbers(50, seen=seen))
    for number in range(10):
        assert next(items) == number
        assert max(seen) <= number + 1
    items.close()
    assert seen[-1] == -1, "what the items come from is closed"


def test_ahead_works_while_its_item_is_in_use() -> None:
    made = threading.Event()

    def items() -> Generator[int, None, None]:
        yield 0
        made.set()
        yield 1

    for item in ahead(items()):
        assert item == 1 or made.wait(60), "the second item is made while the first is held"


def test_an_error_comes_in_its_place() -> None:
    seen: list[int] = []
    items, given = ahead(ahead(numbers(9, seen=seen, bad=4))), []
    with pytest.raises(ValueError, match="no 4"):
        for item in items:
            given.append(item)
    assert given == [0, 1, 2, 3]


def test_a_stage_left_before_it_began_starts_nothing() -> None:
    seen: list[int] = []
    ahead(numbers(3, seen=seen)).close()
    behind(numbers(3, seen=seen), str).close()
    assert seen == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interrupt_of_the_user_of_items_closes_all(error: type[BaseException]) -> None:
    seen: list[int] = []
    items = ahead(ahead(numbers(50, seen=seen)))
    with pytest.raises(error):
        next(items)
        items.throw(error())
    assert seen[-1] == -1


def test_threads_compute_with_the_callers_number_of_threads() -> None:
    def counts() -> Generator[int, None, None]:
        yield torch.get_num_threads()

    before = torch.get_num_threads()
    try:
        for wanted in (1, 2):
            torch.set_num_threads(wanted)
            assert list(ahead(counts())) == [wanted]
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("waiting", [0, 1, 100])
def test_behind_does_all_work_in_order(waiting: int) -> None:
    seen: list[int] = []
    assert list(behind(numbers(20, seen=seen), lambda n: n * n, waiting=waiting)) == [
        n * n for n in range(20)
    ]
    assert seen[-1] == -1


def test_behind_lets_no_more_than_a_few_wait() -> None:
    seen: list[int] = []
    gate = threading.Event()

    def work(number: int) -> int:
        assert gate.wait(60)
        return number

    results = behind(numbers(50, seen=seen), work, waiting=3)
    opener = threading.Timer(0.1, gate.set)
    opener.start()
    assert next(results) == 0
    opener.join()
    assert max(seen) <= 3 + 1
    results.close()


def test_behind_finishes_what_came_before_an_error() -> None:
    results, given = behind(numbers(9, seen=[], bad=4), str), []
    with pytest.raises(ValueError, match="no 4"):
        for result in results:
            given.append(result)
    assert given == ["0", "1", "2", "3"]


def test_behind_stops_at_an_error_of_the_work() -> None:
    seen: list[int] = []
    done: list[int] = []

    def work(number: int) -> int:
        if number == 2:
            raise OSError("full")
        done.append(number)
        return number

    results, given = behind(numbers(500, seen=seen), work, waiting=2), []
    with pytest.raises(OSError, match="full"):
        for result in results:
            given.append(result)
    assert given == [0, 1]
    assert len(done) < 20 and seen[-1] == -1


@pytest.mark.parametrize(("given", "kept"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_the_command_has_idle_threads_sleep_before_torch_is_loaded(given: str | None, kept: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    if given is not None:
        environment["OMP_WAIT_POLICY"] = given
    script = """
import os, sys
from segmentation.cli import app, main
assert "torch" not in sys.modules
try:
    main()
finally:
    print(os.environ["OMP_WAIT_POLICY"])
"""
    done = subprocess.run(
        [sys.executable, "-c", script, "--version"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split()[-1] == kept
