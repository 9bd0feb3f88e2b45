"""Stages side by side: the next items are made, and the last ones put away, in threads of their own.

Order is kept, errors come where they would have come one after the other, and no more than a fixed
number of items is under way. Threads help where the work leaves Python: decoding, models, writing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")


class _End:
    """What a stage gives after its last item."""


_END = _End()


def ahead(items: Generator[T, None, None]) -> Generator[T, None, None]:
    """The same items, the next one of which is made in a thread while the last is in use.

    One item at most waits; an error is raised in the place of its item. Closing this generator
    waits for the item in the making and closes ``items``, which runs in that thread alone until then.
    """
    # A new thread takes over torch's number of threads when it is first asked for it.
    with ThreadPoolExecutor(1, "ahead", initializer=torch.get_num_threads) as pool:
        coming: Future[T | _End] = pool.submit(next, items, _END)
        try:
            while not isinstance(item := coming.result(), _End):
                coming = pool.submit(next, items, _END)
                yield item
        finally:
            coming.cancel()
            pool.shutdown()
            items.close()


def behind(
    items: Generator[T, None, None], work: Callable[[T], R], *, waiting: int = 2
) -> Generator[R, None, None]:
    """``work(item)`` of each item, done in a thread while the next item is made in the caller's.

    Up to ``waiting`` items wait for their work. When ``items`` raises an error, what came before is
    done and given first. Closing this generator, as an error in ``work`` does, drops the work that has
    not begun and closes ``items``.
    """
    with ThreadPoolExecutor(1, "behind") as pool:
        running: deque[Future[R]] = deque()
        failure: Exception | None = None
        try:
            while True:
                try:
                    item = next(items, _END)
                except Exception as error:
                    failure = error
                    break
                if isinstance(item, _End):
                    break
                running.append(pool.submit(work, item))
                while running and (running[0].done() or len(running) > waiting):
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
            if failure is not None:
                raise failure
        finally:
            pool.shutdown(cancel_futures=True)
            items.close()
