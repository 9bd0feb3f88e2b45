"""One thread for the model and one for the index: photos in batches, people before jobs, nothing too late."""

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


#: Does what tickets ask for, and answers them.
_Work = Callable[[list[_Ticket]], None]


def too_late() -> ServiceError:
    """504."""
    return ServiceError(504, "too_late", "the request waited too long and was dropped; try again later")


class _Line:
    """Tickets of one kind, and the thread that works them off."""

    def __init__(self, name: str, take: Callable[[_Line], list[_Ticket]], work: _Work) -> None:
        """``take`` picks what to do next, with the line locked and not empty; ``work`` does it."""
        self.ready = threading.Condition()
        self.lanes: dict[Lane, deque[_Ticket]] = {lane: deque() for lane in Lane}
        self.closed = False
        self._take, self._work = take, work
        self.thread = threading.Thread(target=self._run, name=name, daemon=True)
        self.thread.start()

    def __len__(self) -> int:
        return sum(map(len, self.lanes.values()))

    def put(self, ticket: _Ticket, lane: Lane) -> None:
        """Let a ticket wait; raises ServiceError 503 where nothing is done any more."""
        with self.ready:
            if self.closed:
                raise ServiceError(503, "closing", "the service is shutting down")
            self.lanes[lane].append(ticket)
            self.ready.notify()

    def close(self) -> None:
        """Finish what runs, drop what waits, and stop."""
        with self.ready:
            self.closed = True
            for lane in self.lanes.values():
                for ticket in lane:
                    ticket.future.cancel()
                lane.clear()
            self.ready.notify_all()
        self.thread.join()

    def _run(self) -> None:
        while True:
            with self.ready:
                while not (self.closed or len(self)):
                    self.ready.wait()
                if self.closed:
                    return
                tickets = self._take(self)
            begun = [ticket for ticket in tickets if ticket.begins()]
            if begun:
                self._work(begun)


class Scheduler:
    """Takes photos to the one thread that may use the model, and functions to the one that may use the index.

    Functions run one after the other, so that each sees one state of the index from its first line to its
    last. Close it to stop the threads.
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
        self._photos = _Line("mycelia-model", self._take_photos, self._describe_all)
        self._calls = _Line("mycelia-index", _take_one, _answer)

    @property
    def waiting(self) -> int:
        """Requests of people that wait."""
        return len(self._photos.lanes[Lane.PERSON]) + len(self._calls.lanes[Lane.PERSON])

    @property
    def alive(self) -> bool:
        """Whether requests are taken."""
        return all(line.thread.is_alive() and not line.closed for line in (self._photos, self._calls))

    async def describe(self, photo: Photo, *, lane: Lane = Lane.PERSON) -> Description:
        """What the model sees in a photo (H, W, 3); raises ServiceError 429 and 504, and what it raises."""
        ticket = _Ticket(photo, None, self._deadline(lane))
        found: Description = await self._wait(ticket, self._photos, lane)
        return found

    async def call(self, function: Callable[[], T], *, lane: Lane = Lane.PERSON) -> T:
        """What a function gives in the index's thread; raises as :meth:`describe`."""
        answer: T = await self._wait(_Ticket(None, function, self._deadline(lane)), self._calls, lane)
        return answer

    def close(self) -> None:
        """Finish what runs, drop what waits, and stop."""
        self._photos.close()
        self._calls.close()

    def _deadline(self, lane: Lane) -> float | None:
        return time.monotonic() + self._max_age if lane is Lane.PERSON else None

    async def _wait(self, ticket: _Ticket, line: _Line, lane: Lane) -> Any:
        if lane is Lane.PERSON and self.waiting >= self._queue:
            raise too_many(f"{self._queue} requests wait already; try again in a second")
        line.put(ticket, lane)
        answer = asyncio.wrap_future(ticket.future)
        if lane is Lane.JOB:
            return await answer
        try:
            return await asyncio.wait_for(answer, self._max_age)
        except asyncio.TimeoutError:
            raise too_late() from None

    def _take_photos(self, line: _Line) -> list[_Ticket]:
        """The photos of the next batch, people's first, once there are enough or it is time."""
        until = next(lane[0] for lane in line.lanes.values() if lane).born + self._window
        while not line.closed and len(line) < self._batch and (left := until - time.monotonic()) > 0:
            line.ready.wait(left)
        # a person who comes a moment later waits for few photos of a job
        most = self._batch if line.lanes[Lane.PERSON] else max(1, self._batch // 4)
        waiting = [(lane, ticket) for lane in Lane for ticket in line.lanes[lane]]
        for lane, _ in waiting[:most]:
            line.lanes[lane].popleft()
        return [ticket for _, ticket in waiting[:most]]

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


def _take_one(line: _Line) -> list[_Ticket]:
    """The next function, people's first."""
    return [next(lane for lane in line.lanes.values() if lane).popleft()]


def _answer(tickets: list[_Ticket]) -> None:
    for ticket in tickets:
        assert ticket.call is not None
        try:
            ticket.future.set_result(ticket.call())
        except BaseException as error:
            ticket.future.set_exception(error)
