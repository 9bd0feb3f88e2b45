"""One thread asks the model and the index: photos in batches, people before jobs, nothing too late."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from segmentation.description import Description
from segmentation.service.errors import ServiceError, too_many

T = TypeVar("T")
Photo = npt.NDArray[np.uint8]

#: Describes photos in one go.
Describe = Callable[[Sequence[Photo]], Sequence[Description]]


class Lane(IntEnum):
    """Who waits: a person, or a job of many photos that lets everybody pass."""

    PERSON = 0
    JOB = 1


@dataclass
class _Ticket:
    """A photo to describe, or a function to call."""

    photo: Photo | None
    call: Callable[[], Any] | None
    late: float | None
    """When nobody wants the answer any more, on the monotonic clock."""
    future: Future[Any] = field(default_factory=Future)
    born: float = field(default_factory=time.monotonic)

    def begins(self) -> bool:
        """Whether to do it now: not where its client has gone, or it has waited too long."""
        if self.late is not None and time.monotonic() > self.late:
            if self.future.set_running_or_notify_cancel():
                self.future.set_exception(too_late())
            return False
        return self.future.set_running_or_notify_cancel()


def too_late() -> ServiceError:
    """504."""
    return ServiceError(504, "too_late", "the request waited too long and was dropped; try again later")


class Scheduler:
    """Takes photos and functions from the event loop to the one thread that may use model and index.

    Functions run one after the other, so that each sees one state of the index from its first line to its
    last. Close it to stop the thread.
    """

    def __init__(
        self,
        describe: Describe,
        *,
        batch: int,
        window: float,
        queue: int,
        max_age: float,
        told: Callable[[int], None] = lambda size: None,
    ) -> None:
        """``batch`` photos at once, after at most ``window`` seconds; ``told`` hears the size of each."""
        self._describe = describe
        self._batch, self._window, self._queue, self._max_age = batch, window, queue, max_age
        self._told = told
        self._ready = threading.Condition()
        self._lanes: dict[Lane, deque[_Ticket]] = {lane: deque() for lane in Lane}
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="mycelia-engine", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Requests of people that wait."""
        return len(self._lanes[Lane.PERSON])

    @property
    def alive(self) -> bool:
        """Whether requests are taken."""
        return not self._closed and self._thread.is_alive()

    async def describe(self, photo: Photo, *, lane: Lane = Lane.PERSON) -> Description:
        """What the model sees in a photo (H, W, 3); raises ServiceError 429 and 504, and what it raises."""
        found: Description = await self._wait(_Ticket(photo, None, self._deadline(lane)), lane)
        return found

    async def call(self, function: Callable[[], T], *, lane: Lane = Lane.PERSON) -> T:
        """What a function gives in the engine's thread; raises as :meth:`describe`."""
        answer: T = await self._wait(_Ticket(None, function, self._deadline(lane)), lane)
        return answer

    def close(self) -> None:
        """Finish what runs, drop what waits, and stop."""
        with self._ready:
            self._closed = True
            for lane in self._lanes.values():
                for ticket in lane:
                    ticket.future.cancel()
                lane.clear()
            self._ready.notify_all()
        self._thread.join()

    def _deadline(self, lane: Lane) -> float | None:
        return time.monotonic() + self._max_age if lane is Lane.PERSON else None

    async def _wait(self, ticket: _Ticket, lane: Lane) -> Any:
        with self._ready:
            if self._closed:
                raise ServiceError(503, "closing", "the service is shutting down")
            if lane is Lane.PERSON and len(self._lanes[lane]) >= self._queue:
                raise too_many(f"{self._queue} requests wait already; try again in a second")
            self._lanes[lane].append(ticket)
            self._ready.notify()
        answer = asyncio.wrap_future(ticket.future)
        if lane is Lane.JOB:
            return await answer
        try:
            return await asyncio.wait_for(answer, self._max_age)
        except asyncio.TimeoutError:
            raise too_late() from None

    def _work(self) -> None:
        while (tickets := self._next()) is not None:
            running = [ticket for ticket in tickets if ticket.begins()]
            if not running:
                continue
            if running[0].photo is None:
                _answer(running[0])
            else:
                self._describe_all(running)

    def _next(self) -> list[_Ticket] | None:
        """What to do next: one function, or photos; None at the end."""
        with self._ready:
            while not (self._closed or any(self._lanes.values())):
                self._ready.wait()
            if self._closed:
                return None
            lane = next(lane for lane in Lane if self._lanes[lane])
            first = self._lanes[lane][0]
            if first.photo is None:
                return [self._lanes[lane].popleft()]
            self._let_come(first.born + self._window)
            return self._photos()

    def _let_come(self, until: float) -> None:
        """Wait for more photos, until there are enough or it is time."""
        while not self._closed and self._count_photos() < self._batch:
            left = until - time.monotonic()
            if left <= 0:
                return
            self._ready.wait(left)

    def _count_photos(self) -> int:
        return sum(ticket.photo is not None for lane in self._lanes.values() for ticket in lane)

    def _photos(self) -> list[_Ticket]:
        """The photos of the next batch, people's first, out of their lanes."""
        chosen: list[_Ticket] = []
        # a person who comes a moment later waits for few photos of a job
        most = self._batch if self._lanes[Lane.PERSON] else max(1, self._batch // 4)
        for lane in Lane:
            for ticket in list(self._lanes[lane]):
                if ticket.photo is not None and len(chosen) < most:
                    chosen.append(ticket)
                    self._lanes[lane].remove(ticket)
        return chosen

    def _describe_all(self, tickets: list[_Ticket]) -> None:
        photos = [ticket.photo for ticket in tickets if ticket.photo is not None]
        self._told(len(photos))
        try:
            found = self._describe(photos)
        except BaseException as error:
            for ticket in tickets:
                ticket.future.set_exception(error)
            return
        for ticket, description in zip(tickets, found, strict=True):
            ticket.future.set_result(description)


def _answer(ticket: _Ticket) -> None:
    assert ticket.call is not None
    try:
        ticket.future.set_result(ticket.call())
    except BaseException as error:
        ticket.future.set_exception(error)
