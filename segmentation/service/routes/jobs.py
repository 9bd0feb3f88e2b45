"""Many photos at once, when nobody else waits."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Request
from starlette.datastructures import UploadFile
from starlette.responses import Response, StreamingResponse

from segmentation.service.answers import JSON, OVERLAY, format_of
from segmentation.service.errors import ServiceError, bad_request
from segmentation.service.jobs import DONE, RUNNING, Job
from segmentation.service.openapi import PHOTOS_BODY
from segmentation.service.state import service_of
from segmentation.service.uploads import closing_form, read_file, read_form

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])


@router.post("", summary="Segment many photos", status_code=202, openapi_extra=PHOTOS_BODY)
async def start(request: Request, format: str = "png") -> dict[str, Any]:
    """Field ``image`` as often as there are photos; ``?format=`` is one of the files of labelling tools."""
    service = service_of(request)
    if format in (JSON, OVERLAY):
        raise bad_request("a job writes files: png, coco-rle, labelme, ...; GET /v1/index lists them")
    chosen, settings = format_of(format), service.settings
    form = await read_form(request, most=settings.job_bytes, files=settings.job_images)
    async with closing_form(form):
        files = [file for file in form.getlist("image") if isinstance(file, UploadFile)]
        if not files:
            raise bad_request("the form has no file in its field 'image'")
        uploads = [await read_file(file, settings.max_bytes) for file in files]
    return service.jobs.start(uploads, chosen).to_json()


@router.get("/{id}", summary="How far a job is")
async def progress(request: Request, id: str) -> dict[str, Any]:
    """Its state, and what could not be read."""
    return service_of(request).jobs.get(id).to_json()


@router.get("/{id}/events", summary="How far a job is, as it goes on", response_class=StreamingResponse)
async def events(request: Request, id: str) -> StreamingResponse:
    """Server-sent events ``progress``; the last one is ``done`` or ``failed``."""
    job = service_of(request).jobs.get(id)
    return StreamingResponse(_stream(job), media_type="text/event-stream")


@router.get("/{id}/result", summary="A job's masks", response_class=Response)
async def result(request: Request, id: str) -> Response:
    """A zip, once it is done; 409 before."""
    service = service_of(request)
    job = service.jobs.get(id)
    if job.state != DONE:
        raise ServiceError(409, "not_done", f"the job is {job.state}, {job.completed} of {job.total}")
    headers = {"Content-Disposition": 'attachment; filename="masks.zip"'}
    content = await service.aside(job.result.read_bytes)
    return Response(content, media_type="application/zip", headers=headers)


@router.delete("/{id}", summary="Stop and forget a job")
async def drop(request: Request, id: str) -> dict[str, Any]:
    """Its masks go, too."""
    service = service_of(request)
    service.jobs.drop(id)
    return {"job": id, "version": service.memory.last.version}


async def _stream(job: Job) -> AsyncIterator[str]:
    async for now in job.events():
        name = "progress" if now["state"] == RUNNING else now["state"]
        yield f"event: {name}\ndata: {json.dumps(now, separators=(',', ':'))}\n\n"
