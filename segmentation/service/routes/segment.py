"""Photos in, masks out; and why."""

from __future__ import annotations

import time
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import JSONResponse, Response

from segmentation.explain import Vote
from segmentation.segmenter import Segmentation
from segmentation.service.answers import JSON, OVERLAY, export, format_of, overlay_png, segment_json
from segmentation.service.blanks import blanked
from segmentation.service.cache import Seen
from segmentation.service.memory import State
from segmentation.service.openapi import PHOTO_BODY, SEGMENT_ANSWER
from segmentation.service.state import Service, service_of, while_wanted
from segmentation.service.uploads import decode, read_upload

router = APIRouter(prefix="/v1", tags=["segment"])

#: Below it a pixel is left blank.
MinConfidence = Annotated[float, Query(ge=0, le=1)]

#: Most neighbours of one question.
MOST_NEIGHBORS = 1000


class ExplainRequest(BaseModel):
    """A pixel of a photo that was segmented."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"id": "0" * 32, "row": 120, "col": 64, "k": 10}]},
    )

    id: str = Field(max_length=64)
    row: int
    col: int
    k: int | None = Field(default=None, ge=1, le=MOST_NEIGHBORS)


@router.post(
    "/segment",
    summary="Segment a photo",
    response_model=None,
    openapi_extra=PHOTO_BODY,
    responses=SEGMENT_ANSWER,
)
async def segment(
    request: Request, format: str | None = None, min_confidence: MinConfidence = 0.0
) -> Response:
    """The mask of a photo, in the format that ``?format=`` or ``Accept`` names, JSON without either."""
    service, wanted = service_of(request), _wanted(request, format)
    upload = await read_upload(request, service.settings.max_bytes)
    began = time.perf_counter()

    async def work() -> Response:
        seen = await service.see(upload)
        return await _answer(service, seen, upload.name, wanted, began, min_confidence)

    return await while_wanted(request, work())


@router.post(
    "/segment/{id}",
    summary="Segment a photo that was seen before",
    response_model=None,
    responses=SEGMENT_ANSWER,
)
async def segment_again(
    request: Request, id: str, format: str | None = None, min_confidence: MinConfidence = 0.0
) -> Response:
    """As the first time, by the memory of now, for the cost of the search; 404 where it is gone."""
    service, wanted = service_of(request), _wanted(request, format)
    began, seen = time.perf_counter(), service.seen(id)
    await request.body()
    return await while_wanted(request, _answer(service, seen, seen.name, wanted, began, min_confidence))


@router.post("/explain", summary="Why a pixel got its class")
async def explain(request: Request, asked: ExplainRequest) -> dict[str, Any]:
    """The memory patches that voted at the pixel, heaviest first; their weights sum to 1."""
    service = service_of(request)
    seen = service.seen(asked.id)
    work = service.scheduler.call(
        partial(service.memory.explain, seen.description, asked.row, asked.col, k=asked.k)
    )
    state, result, votes = await while_wanted(request, work)
    row, col = asked.row, asked.col
    column = int(result.columns[row, col])
    top, left, bottom, right = result.grid.patch_box(*result.patch_at(row, col))
    return {
        "row": row,
        "col": col,
        "class": {
            "name": state.classes.names[column],
            "column": column,
            "confidence": round(float(result.confidence[row, col]), 6),
        },
        "patch": {"top": top, "left": left, "bottom": bottom, "right": right},
        "neighbors": [vote_json(vote) for vote in votes],
        "version": state.version,
    }


def vote_json(vote: Vote) -> dict[str, Any]:
    """A vote as the contract has it."""
    return {
        "number": vote.number,
        "image": vote.image_id,
        "row": vote.patch[0],
        "col": vote.patch[1],
        "box": box_json(vote.box, vote.image_size),
        "similarity": round(vote.similarity, 6),
        "weight": round(vote.weight, 8),
        "classes": {name: round(share, 4) for name, share in vote.label.items()},
        "thumbnail": thumbnail_address(vote.number),
    }


def box_json(box: tuple[float, float, float, float], size: tuple[int, int]) -> dict[str, float]:
    """A box in pixels of an image of ``size`` (H, W) as shares of it."""
    height, width = size
    shares = (box[0] / height, box[1] / width, box[2] / height, box[3] / width)
    names = ("top", "left", "bottom", "right")
    return {name: round(min(max(share, 0.0), 1.0), 6) for name, share in zip(names, shares, strict=True)}


def thumbnail_address(number: int) -> str:
    """Where an image's small picture is."""
    return f"/v1/images/{number}/thumbnail"


def _wanted(request: Request, format: str | None) -> str:
    """The format that a request asks for, checked before the photo is looked at."""
    if format is None:
        accept = request.headers.get("accept", "").lower()
        picture = "image/png" in accept and "application/json" not in accept
        format = ("overlay" if "overlay" in accept else "png") if picture else JSON
    if format not in (JSON, OVERLAY):
        format_of(format)
    return format


async def _answer(
    service: Service, seen: Seen, name: str, wanted: str, began: float, least: float
) -> Response:
    entered = time.perf_counter()
    state, result = await service.scheduler.call(partial(service.memory.label, seen.description))
    result = await service.aside(blanked, result, state.classes, least)
    found = time.perf_counter()
    headers = {"X-Mycelia-Version": state.version, "X-Mycelia-Id": seen.id}
    if wanted == JSON:
        answer = await service.aside(segment_json, seen.id, result, state.classes)
        answer["milliseconds"] = {
            "features": round(1000 * (entered - began), 2),
            "search": round(1000 * (found - entered), 2),
            "total": round(1000 * (time.perf_counter() - began), 2),
        }
        answer["version"] = state.version
        return await service.aside(partial(JSONResponse, answer, headers=headers))
    if wanted == OVERLAY:
        picture = await service.aside(_overlay, service, seen, result, state)
        return Response(picture, media_type="image/png", headers=headers)
    file = await service.aside(export, format_of(wanted), name, result, state.classes)
    if wanted != "png":
        headers["Content-Disposition"] = f'attachment; filename="{_ascii(file.name)}"'
    return Response(file.content, media_type=file.media_type, headers=headers)


def _overlay(service: Service, seen: Seen, result: Segmentation, state: State) -> bytes:
    return overlay_png(decode(seen.content, service.settings.max_pixels), result, state.classes)


def _ascii(name: str) -> str:
    return name.encode("ascii", "replace").decode().replace("?", "_").replace('"', "_")
