"""Whether it lives, what it is, and its numbers."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from segmentation.export import FORMATS
from segmentation.service.answers import JSON, OVERLAY, classes_json, media_type
from segmentation.service.errors import ServiceError
from segmentation.service.state import service_of

router = APIRouter(tags=["status"])


@router.get("/healthz", summary="Whether the process lives")
async def healthz() -> dict[str, str]:
    """Always ok."""
    return {"status": "ok"}


@router.get("/readyz", summary="Whether model and index are there")
async def readyz(request: Request) -> dict[str, str]:
    """503 until then, and while it shuts down."""
    service = service_of(request)
    if not service.scheduler.alive:
        raise ServiceError(503, "closing", "the service is shutting down")
    return {"status": "ok", "version": service.memory.last.version}


@router.get("/metrics", summary="Prometheus's numbers", response_class=Response)
async def metrics(request: Request) -> Response:
    """In Prometheus's text format."""
    return Response(service_of(request).metrics.text(), media_type="text/plain; version=0.0.4")


@router.get("/v1/index", summary="What is served, and its limits")
async def index(request: Request) -> dict[str, Any]:
    """Name, sizes, classes, formats of answers, limits."""
    service = service_of(request)
    state = await service.state()
    return {
        "name": service.memory.name,
        "rows": state.rows,
        "images": len(state.images),
        "engine": state.manifest.engine.get("kind"),
        "model": (state.manifest.recipe.get("backbone") or {}).get("model"),
        "classes": classes_json(state.classes),
        "writable": not service.settings.read_only,
        "formats": _formats(),
        "limits": {"bytes": service.settings.max_bytes, "pixels": service.settings.max_pixels},
        "version": state.version,
    }


@router.get("/v1/classes", summary="The classes, in column order")
async def classes(request: Request) -> dict[str, Any]:
    """Id in masks, name and colour of each."""
    state = await service_of(request).state()
    return {"classes": classes_json(state.classes), "version": state.version}


def _formats() -> list[dict[str, str]]:
    listed = [(JSON, ".json"), (OVERLAY, ".png")]
    for format in FORMATS:
        file = format.photo_file.name("x") if format.photo_file is not None else ""
        name = format.run_file.name if format.run_file is not None else file
        listed.append((format.name, f".{name.rpartition('.')[2]}"))
    return [
        {"name": name, "extension": extension, "media_type": media_type(f"x{extension}")}
        for name, extension in listed
    ]
