"""Requests that are sent before the last one is answered, with their answers in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

#: Requests under way at a time: one is answered by the server while the other is on its way.
UNDER_WAY = 2

_Request = TypeVar("_Request")
_Answer = TypeVar("_Answer")


def in_order(call: Callable[[_Request], _Answer], requests: Iterable[_Request]) -> Iterator[_Answer]:
    """``call`` of each request, two at a time in other threads; answers come in the order of the requests.

    One more request is made ahead, and no more, so that memory is bounded whatever there is to send. After
    an error nothing further is sent, and what is under way is waited for: nothing arrives behind it.
    """
    coming = iter(requests)
    for only in coming:
        following = next(coming, None)
        if following is None:  # no thread for one request
            yield call(only)
            return
        pool = ThreadPoolExecutor(UNDER_WAY, "qdrant")
        waiting: deque[Future[_Answer]] = deque((pool.submit(call, only), pool.submit(call, following)))
        try:
            for request in coming:
                waiting.append(pool.submit(call, request))
                yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
