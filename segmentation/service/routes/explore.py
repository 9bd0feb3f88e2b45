"""The memory as a map, and the patches whose labels look wrong."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request

from segmentation.service.memory import State
from segmentation.service.routes.segment import box_json, thumbnail_address
from segmentation.service.scheduler import Lane
from segmentation.service.state import service_of, while_wanted
from segmentation.service.survey import Doubt

router = APIRouter(prefix="/v1", tags=["memory"])


@router.get("/map", summary="Patches of the memory on a plane")
async def map_of_memory(request: Request) -> dict[str, Any]:
    """A bounded sample by its two principal components, in -1..1; column is its largest class."""
    service = service_of(request)
    work = service.scheduler.call(service.surveys.points, lane=Lane.JOB)
    state, survey, points = await while_wanted(request, work)
    rows = zip(points.tolist(), survey.labels.argmax(axis=1).tolist(), survey.places.tolist(), strict=True)
    return {
        "points": [
            {
                "x": round(x, 5),
                "y": round(y, 5),
                "column": column,
                "number": place[0],
                "row": place[1],
                "col": place[2],
            }
            for (x, y), column, place in rows
        ],
        "method": "pca",
        "version": state.version,
    }


@router.get("/suspicious", summary="Patches whose labels their neighbours doubt")
async def suspicious(request: Request, limit: Annotated[int, Query(ge=1, le=500)] = 50) -> dict[str, Any]:
    """Of a bounded sample: those whose neighbours in other images say another class, worst first."""
    service = service_of(request)
    work = service.scheduler.call(service.surveys.doubts, lane=Lane.JOB)
    state, doubts = await while_wanted(request, work)
    book = service.memory.segmenter.book
    listed = [_doubt_json(doubt, state, book.box(doubt.place)) for doubt in doubts[:limit]]
    return {"patches": listed, "total": len(doubts), "version": state.version}


def _doubt_json(
    doubt: Doubt, state: State, found: tuple[tuple[float, float, float, float], tuple[int, int]]
) -> dict[str, Any]:
    number, row, col = doubt.place
    names = state.classes.names

    def said(pair: tuple[int, float]) -> dict[str, Any]:
        return {"name": names[pair[0]], "share": round(pair[1], 4)}

    return {
        "number": number,
        "row": row,
        "col": col,
        "box": box_json(*found),
        "labelled": said(doubt.labelled),
        "neighbors_say": said(doubt.neighbors_say),
        "thumbnail": thumbnail_address(number),
    }
