"""Jobs: many photos that are segmented when nobody else waits, their progress, and their masks in a zip."""

from __future__ import annotations

import asyncio
import logging
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retrieval.errors import MyceliaError
from segmentation.export import Exporter, Format
from segmentation.service.answers import exporter_for, labelled, zipped
from segmentation.service.errors import ServiceError, not_found, refusal_of, too_many
from segmentation.service.scheduler import Lane
from segmentation.service.uploads import Upload

if TYPE_CHECKING:
    from segmentation.service.state import Service

LOG = logging.getLogger("mycelia.service")

RUNNING, DONE, FAILED = "running", "done", "failed"


@dataclass
class Job:
    """Photos on their way."""

    id: str
    format: Format
    total: int
    folder: Path
    state: str = RUNNING
    completed: int = 0
    failed: list[dict[str, str]] = field(default_factory=list)
    version: str = ""
    task: asyncio.Task[None] | None = None
    moved: asyncio.Event = field(default_factory=asyncio.Event)
    """Set, and replaced by a new one, whenever there is something new to tell."""

    @property
    def result(self) -> Path:
        """The zip, once it is done."""
        return self.folder / "masks.zip"

    def to_json(self) -> dict[str, Any]:
        """How far it is."""
        return {
            "job": self.id,
            "state": self.state,
            "format": self.format.name,
            "completed": self.completed,
            "total": self.total,
            "failed": list(self.failed),
            "version": self.version,
        }

    def tell(self) -> None:
        """Wake up whoever watches."""
        moved, self.moved = self.moved, asyncio.Event()
        moved.set()

    async def events(self) -> AsyncIterator[dict[str, Any]]:
        """How far it is, now and whenever that changes, to the end."""
        while True:
            moved, now = self.moved, self.to_json()
            yield now  # it may go on while that is sent
            if now["state"] != RUNNING:
                return
            await moved.wait()


class JobBook:
    """The jobs of a service; the oldest that is done makes room for a new one."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._jobs: dict[str, Job] = {}

    def get(self, id: str) -> Job:
        """A job; raises ServiceError 404."""
        if id not in self._jobs:
            raise not_found("there is no such job (any more)")
        return self._jobs[id]

    def start(self, uploads: list[Upload], format: Format) -> Job:
        """Begin a job; raises ServiceError 429 where as many run as may be kept."""
        self._make_room()
        id = secrets.token_urlsafe(12)
        folder = Path(tempfile.mkdtemp(prefix="mycelia-job-"))
        job = Job(id, format, len(uploads), folder, version=self._service.memory.last.version)
        self._jobs[id] = job
        job.task = asyncio.get_running_loop().create_task(self._run(job, _distinct(uploads)))
        return job

    def drop(self, id: str) -> None:
        """Stop a job and forget it; raises ServiceError 404."""
        job = self.get(id)
        del self._jobs[id]
        if job.task is not None:
            job.task.get_loop().call_soon_threadsafe(job.task.cancel)
        shutil.rmtree(job.folder, ignore_errors=True)

    def close(self) -> None:
        """Stop and forget all jobs."""
        for id in list(self._jobs):
            self.drop(id)

    def _make_room(self) -> None:
        if len(self._jobs) < self._service.settings.jobs:
            return
        done = next((job.id for job in self._jobs.values() if job.state != RUNNING), None)
        if done is None:
            raise too_many(f"{len(self._jobs)} jobs are running; try again later", after=10)
        self.drop(done)

    async def _run(self, job: Job, uploads: list[Upload]) -> None:
        try:
            await self._segment_all(job, uploads)
            job.state = DONE
        except Exception:
            LOG.exception("job %s failed", job.id)
            job.state = FAILED
        finally:
            job.tell()

    async def _segment_all(self, job: Job, uploads: list[Upload]) -> None:
        service, masks = self._service, job.folder / "masks"
        classes = service.memory.last.classes
        exporter = exporter_for(masks, job.format, classes, [upload.name for upload in uploads])
        with exporter:
            pending: list[asyncio.Task[None]] = []
            for upload in uploads:
                pending.append(asyncio.ensure_future(self._segment(job, upload, exporter)))
                if len(pending) >= service.memory.segmenter.recipe.runtime.batch_size:
                    await asyncio.gather(*pending)
                    pending = []
            await asyncio.gather(*pending)
        await service.aside(zipped, masks, job.result)

    async def _segment(self, job: Job, upload: Upload, exporter: Exporter) -> None:
        service = self._service
        try:
            seen = await service.see(upload, lane=Lane.JOB)
            state, result = await service.scheduler.call(
                partial(service.memory.label, seen.description), lane=Lane.JOB
            )
            job.version = state.version
            if state.classes != exporter.settings.classes:
                raise ServiceError(409, "classes_changed", "the classes changed while the job ran")
            exporter.add(labelled(upload.name, result, exporter.settings))
        except (ServiceError, MyceliaError) as error:
            refusal = error if isinstance(error, ServiceError) else refusal_of(error)
            job.failed.append({"name": upload.name, **refusal.body()["error"]})
        job.completed += 1
        job.tell()


def _distinct(uploads: list[Upload]) -> list[Upload]:
    """The uploads under names of which none, without its ending, is another's."""
    taken: set[str] = set()
    named = []
    for upload in uploads:
        stem, suffix = Path(upload.name).stem, Path(upload.name).suffix
        name, number = stem, 1
        while name.lower() in taken:
            number += 1
            name = f"{stem}-{number}"
        taken.add(name.lower())
        named.append(Upload(upload.content, f"{name}{suffix}"))
    return named
