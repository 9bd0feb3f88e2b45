from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest
from starlette.requests import Request

from segmentation.service.errors import ServiceError
from segmentation.service.scheduler import Lane, Photo, Scheduler
from segmentation.service.state import ClientGoneError, while_wanted


class Model:
    """Remembers the batches that it sees, and holds the first one up until it is told to go on."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.begun, self.go = threading.Event(), threading.Event()

    def describe(self, photos: Sequence[Photo]) -> list[Any]:
        self.batches.append([int(photo[0, 0, 0]) for photo in photos])
        self.begun.set()
        assert self.go.wait(20)
        return [int(photo[0, 0, 0]) for photo in photos]


def photo(value: int) -> Photo:
    return np.full((1, 1, 3), value, np.uint8)


def held(test: Callable[[Scheduler, Model], Awaitable[None]], **settings: Any) -> None:
    """Run a test beside a scheduler whose model is busy with a first photo, number 0."""

    async def run() -> None:
        model = Model()
        chosen = {"batch": 4, "window": 0.0, "queue": 8, "max_age": 20.0, **settings}
        scheduler = Scheduler(model.describe, **chosen)
        first = asyncio.ensure_future(scheduler.describe(photo(0)))
        try:
            await asyncio.to_thread(model.begun.wait, 20)
            await test(scheduler, model)
            model.go.set()
            assert await first == 0
        finally:
            model.go.set()
            await asyncio.to_thread(scheduler.close)

    asyncio.run(run())


async def soon(condition: Callable[[], bool]) -> None:
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.002)
    raise AssertionError("it did not happen")


def test_what_waits_is_described_together_people_first() -> None:
    async def test(scheduler: Scheduler, model: Model) -> None:
        jobs = [asyncio.ensure_future(scheduler.describe(photo(100 + i), lane=Lane.JOB)) for i in range(3)]
        await asyncio.sleep(0)
        people = [asyncio.ensure_future(scheduler.describe(photo(i))) for i in (1, 2, 3)]
        await soon(lambda: scheduler.waiting == 3)
        model.go.set()
        assert await asyncio.gather(*people, *jobs) == [1, 2, 3, 100, 101, 102]
        assert model.batches == [[0], [1, 2, 3, 100], [101], [102]]

    held(test)


def test_a_photo_waits_a_little_for_others() -> None:
    async def run() -> None:
        model = Model()
        model.go.set()
        scheduler = Scheduler(model.describe, batch=2, window=20.0, queue=8, max_age=30.0)
        one = asyncio.ensure_future(scheduler.describe(photo(1)))
        await asyncio.sleep(0.05)
        assert model.batches == []
        assert await asyncio.gather(one, scheduler.describe(photo(2))) == [1, 2]
        assert model.batches == [[1, 2]]
        await asyncio.to_thread(scheduler.close)

    asyncio.run(run())


def test_a_full_queue_refuses() -> None:
    async def test(scheduler: Scheduler, model: Model) -> None:
        waiting = [asyncio.ensure_future(scheduler.describe(photo(i))) for i in (1, 2)]
        await soon(lambda: scheduler.waiting == 2)
        with pytest.raises(ServiceError) as refused:
            await scheduler.call(lambda: 1)
        assert refused.value.status == 429
        assert refused.value.headers["Retry-After"]
        model.go.set()
        assert await asyncio.gather(*waiting) == [1, 2]

    held(test, queue=2)


def test_who_asks_the_index_does_not_wait_for_the_model() -> None:
    async def test(scheduler: Scheduler, model: Model) -> None:
        order: list[int] = []
        calls = [
            scheduler.call(partial(order.append, 2), lane=Lane.JOB),
            scheduler.call(lambda: order.append(1)),
        ]
        await asyncio.gather(*calls)
        assert sorted(order) == [1, 2]
        assert model.batches == [[0]]

    held(test)


def test_what_waited_too_long_is_dropped() -> None:
    async def test(scheduler: Scheduler, model: Model) -> None:
        with pytest.raises(ServiceError) as late:
            await scheduler.describe(photo(1))
        assert late.value.status == 504
        model.go.set()
        await asyncio.sleep(0.05)
        assert model.batches == [[0]]

    async def run() -> None:
        model = Model()
        scheduler = Scheduler(model.describe, batch=4, window=0.0, queue=8, max_age=0.05)
        first = asyncio.ensure_future(scheduler.describe(photo(0)))
        await asyncio.to_thread(model.begun.wait, 20)
        try:
            await test(scheduler, model)
            with pytest.raises(ServiceError):  # its own answer came too late, too
                await first
        finally:
            model.go.set()
            await asyncio.to_thread(scheduler.close)

    asyncio.run(run())


def test_work_of_a_client_that_has_gone_is_dropped() -> None:
    async def test(scheduler: Scheduler, model: Model) -> None:
        gone = asyncio.Event()

        async def receive() -> dict[str, str]:
            await gone.wait()
            return {"type": "http.disconnect"}

        request = Request({"type": "http", "method": "POST", "headers": []}, receive)
        asked = asyncio.ensure_future(while_wanted(request, scheduler.describe(photo(1))))
        other = asyncio.ensure_future(scheduler.describe(photo(2)))
        await soon(lambda: scheduler.waiting == 2)
        gone.set()
        with pytest.raises(ClientGoneError):
            await asked
        model.go.set()
        assert await other == 2
        assert model.batches == [[0], [2]]

    held(test)


def test_a_fault_of_the_model_is_everybodys_of_the_batch_and_nobody_elses() -> None:
    async def run() -> None:
        def describe(photos: Sequence[Photo]) -> list[Any]:
            if any(photo[0, 0, 0] == 13 for photo in photos):
                raise ValueError("thirteen")
            return [int(photo[0, 0, 0]) for photo in photos]

        scheduler = Scheduler(describe, batch=4, window=0.0, queue=8, max_age=20.0)
        with pytest.raises(ValueError, match="thirteen"):
            await scheduler.describe(photo(13))
        assert await scheduler.describe(photo(1)) == 1
        await asyncio.to_thread(scheduler.close)
        with pytest.raises(ServiceError) as closed:
            await scheduler.describe(photo(1))
        assert closed.value.status == 503

    asyncio.run(run())


def test_the_service_answers_429_and_504(serve: Any, make_photo: Any) -> None:
    with serve(queue=1, max_age=1.5) as client:
        service = client.app.state.service
        begun, go = threading.Event(), threading.Event()

        def hold() -> None:
            begun.set()
            go.wait(20)

        call = partial(service.scheduler.call, hold, lane=Lane.JOB)
        holding = threading.Thread(target=lambda: client.portal.call(call))
        holding.daemon = True
        asked: list[int] = []
        waiting = threading.Thread(target=lambda: asked.append(client.get("/v1/index").status_code))
        try:
            holding.start()
            assert begun.wait(20)
            waiting.start()
            until = time.monotonic() + 20
            while not service.scheduler.waiting and time.monotonic() < until:
                time.sleep(0.005)
            refused = client.post("/v1/segment", files={"image": make_photo(1)})
            assert refused.status_code == 429
            assert int(refused.headers["retry-after"]) >= 1
            waiting.join(20)
            assert asked == [504]
        finally:
            go.set()
            holding.join(20)
        assert client.get("/v1/index").status_code == 200


def test_changes_wait_in_a_short_line(serve: Any) -> None:
    with serve(writes=1) as client:
        service = client.app.state.service
        begun, go = threading.Event(), threading.Event()

        def hold() -> None:
            begun.set()
            go.wait(20)

        holding = threading.Thread(target=lambda: client.portal.call(service.change, "test", hold))
        holding.start()
        try:
            assert begun.wait(20)
            refused = client.delete("/v1/images/0")
            assert refused.status_code == 429
            assert client.get("/v1/images/0").status_code == 200  # who only asks does not wait
        finally:
            go.set()
            holding.join(20)
