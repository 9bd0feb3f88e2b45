"""What all routes share: the memory, the scheduler, the photos seen, and the limits."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from starlette.requests import Request

from segmentation.service.cache import Seen, id_of
from segmentation.service.errors import ServiceError, not_found, too_many
from segmentation.service.memory import Memory, State
from segmentation.service.metrics import Metrics
from segmentation.service.scheduler import Lane, Scheduler
from segmentation.service.settings import ServiceSettings
from segmentation.service.uploads import Upload, decode

T = TypeVar("T")


class ClientGoneError(Exception):
    """Nobody waits for the answer any more."""


class Service:
    """One open index and all that serves it. Close it when the last request is done."""

    def __init__(self, memory: Memory, settings: ServiceSettings) -> None:
        from segmentation.service.cache import DescriptionCache
        from segmentation.service.jobs import JobBook
        from segmentation.service.survey import Surveys

        self.memory = memory
        self.settings = settings
        self.metrics = Metrics()
        self.cache = DescriptionCache(settings.cache_bytes)
        self.scheduler = Scheduler(
            memory.describe,
            batch=memory.segmenter.recipe.runtime.batch_size,
            window=settings.window,
            queue=settings.queue,
            max_age=settings.max_age,
            told=self.metrics.batches.observe,
        )
        self.surveys = Surveys(memory)
        self.jobs = JobBook(self)
        self._pool = ThreadPoolExecutor(2, "mycelia-pixels")  # decoding and encoding
        self._writer = ThreadPoolExecutor(1, "mycelia-writer")
        self._writes = 0
        self._watch()

    def _watch(self) -> None:
        watch = self.metrics.watch
        watch("mycelia_waiting_requests", "Requests that wait", lambda: self.scheduler.waiting)
        watch("mycelia_cached_photos", "Described photos that are kept", lambda: len(self.cache))
        watch("mycelia_cached_bytes", "Bytes of the photos that are kept", lambda: self.cache.bytes)
        watch("mycelia_rows", "Patches of the memory", lambda: self.memory.last.rows)
        watch("mycelia_images", "Images of the memory", lambda: len(self.memory.last.images))

    async def aside(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call a function that needs neither model nor index in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, function, *arguments)

    async def state(self) -> State:
        """The newest state of the index."""
        return await self.scheduler.call(self.memory.now)

    async def see(self, upload: Upload, *, lane: Lane = Lane.PERSON) -> Seen:
        """The upload's description, out of the cache where it was seen before."""
        id = id_of(upload.content)
        seen = self.cache.get(id)
        if seen is None:
            photo = await self.aside(decode, upload.content, self.settings.max_pixels)
            description = await self.scheduler.describe(photo, lane=lane)
            seen = Seen(id, upload.content, upload.name, description)
            self.cache.put(seen)
        return seen

    def seen(self, id: str) -> Seen:
        """A photo that was seen before; raises ServiceError 404."""
        seen = self.cache.get(id)
        if seen is None:
            raise not_found("this photo is not kept (any more); send the image again")
        return seen

    async def change(self, kind: str, function: Callable[[], T]) -> T:
        """Change the memory: one change at a time, and to its end, whether or not the client stays.

        Raises ServiceError 403 for a service that may not, 429 where too many wait.
        """
        if self.settings.read_only:
            raise ServiceError(403, "read_only", "this service runs with --read-only")
        if self._writes >= self.settings.writes:
            raise too_many(f"{self.settings.writes} changes wait already; try again in a moment", after=2)
        self._writes += 1
        try:
            work = asyncio.get_running_loop().run_in_executor(self._writer, function)
            done: T = await asyncio.shield(work)
        finally:
            self._writes -= 1
        self.metrics.changes.labels(kind).inc()
        await self.state()  # whoever asks after the answer sees the change
        return done

    def close(self) -> None:
        """Finish the change at hand, drop what waits, and close the index."""
        self.jobs.close()
        self.scheduler.close()
        self._writer.shutdown(wait=True, cancel_futures=True)
        self._pool.shutdown(wait=True, cancel_futures=True)
        self.memory.close()


def service_of(request: Request) -> Service:
    """The service that a request is for."""
    service: Service | None = getattr(request.app.state, "service", None)
    if service is None:
        raise ServiceError(503, "loading", "the service is not ready", headers={"Retry-After": "2"})
    return service


async def while_wanted(request: Request, work: Coroutine[Any, Any, T] | Awaitable[T]) -> T:
    """Await work whose request was read to its end, and drop it when the client goes away."""
    task: asyncio.Future[T] = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_gone(request))
    both: set[asyncio.Future[Any]] = {task, gone}
    try:
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientGoneError
        return task.result()
    finally:
        for each in both:
            each.cancel()
        await asyncio.gather(*both, return_exceptions=True)  # what it began is dropped now


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
