"""The memory's images: listed, added, replaced, removed."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from indexer.datasets.labels import MaskFile
from retrieval.store.records import ImageRecord
from segmentation.service.cache import id_of
from segmentation.service.errors import ServiceError, bad_request
from segmentation.service.memory import TAUGHT, Learnt, State
from segmentation.service.openapi import LABELLED_BODY
from segmentation.service.routes.segment import thumbnail_address
from segmentation.service.state import Service, service_of
from segmentation.service.survey import Survey
from segmentation.service.uploads import (
    Upload,
    check_image,
    closing_form,
    file_of,
    on_disk,
    read_form,
    safe_name,
)

router = APIRouter(prefix="/v1/images", tags=["memory"])

#: Entries of one answer.
MOST_LISTED = 500


@router.get("", summary="The memory's images")
async def images(
    request: Request,
    offset: Annotated[int, Query(ge=0)] = 0,
    limit: Annotated[int, Query(ge=1, le=MOST_LISTED)] = 50,
    class_name: Annotated[str | None, Query(alias="class", max_length=200)] = None,
) -> dict[str, Any]:
    """By number, with the classes that each one's patches have; those of one class alone with ``?class=``."""
    service = service_of(request)
    state, survey = await service.scheduler.call(service.surveys.now)
    totals = _totals(service, survey)
    chosen = state.images
    if class_name is not None:
        if class_name not in state.classes.names:
            raise bad_request("there is no class of this name; GET /v1/classes lists them")
        column = state.classes.names.index(class_name)
        chosen = tuple(r for r in chosen if r.number in totals and totals[r.number][column] > 0)
    listed = [_entry(record, state, totals) for record in chosen[offset : offset + limit]]
    return {"total": len(chosen), "images": listed, "version": state.version}


@router.get("/{number}", summary="One image of the memory")
async def image(request: Request, number: int) -> dict[str, Any]:
    """Its patches and their classes."""
    service = service_of(request)
    state, survey = await service.scheduler.call(service.surveys.now)
    entry = _entry(state.image(number), state, _totals(service, survey))
    return {**entry, "version": state.version}


@router.get("/{number}/thumbnail", summary="A small JPEG of a memory image", response_class=Response)
async def thumbnail(request: Request, number: int) -> Response:
    """As the index keeps it."""
    service = service_of(request)
    content = await service.aside(service.memory.thumbnail, number)
    return Response(content, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=3600"})


@router.post("", summary="Add a labelled image", status_code=201, openapi_extra=LABELLED_BODY)
async def add(request: Request) -> dict[str, Any]:
    """A photo and its mask of class ids (palette or grey PNG). 409 where the name is taken."""
    service = service_of(request)
    photo, mask, name = await _labelled(request, service)
    id = safe_name(name, default="") or f"upload-{id_of(photo.content)[:12]}"
    state = await service.state()
    if any(record.id == id for record in state.images):
        raise ServiceError(409, "exists", f"the memory has an image {id!r} already; PUT replaces it")
    learnt = await service.change("add", partial(_learn, service, photo, mask, id, replace=False))
    return _learnt_json(learnt)


@router.put("/{number}", summary="Replace an image and its labels", openapi_extra=LABELLED_BODY)
async def replace(request: Request, number: int) -> dict[str, Any]:
    """Old rows out and new ones in, in one step; the image has a new number afterwards."""
    service = service_of(request)
    photo, mask, _ = await _labelled(request, service)
    record = (await service.state()).image(number)
    learnt = await service.change("replace", partial(_learn, service, photo, mask, record.id, replace=True))
    return _learnt_json(learnt)


@router.delete("/{number}", summary="Take an image out of the memory")
async def remove(request: Request, number: int) -> dict[str, Any]:
    """Also undoes a teaching. 409 for the last one."""
    service = service_of(request)
    version, rows = await service.change("remove", partial(service.memory.remove, number))
    return {"removed": rows, "version": version}


async def _labelled(request: Request, service: Service) -> tuple[Upload, Upload, str | None]:
    """Photo, mask and name of a form, looked at as far as their headers."""
    most = service.settings.max_bytes
    async with closing_form(await read_form(request, most=2 * most, files=2)) as form:
        photo, mask = await file_of(form, "image", most), await file_of(form, "mask", most)
        name = form.get("name")
    if name is not None and not isinstance(name, str):
        raise bad_request("the field name is a text")
    for upload, what in ((photo, "the image"), (mask, "the mask")):
        await service.aside(check_image, upload.content, service.settings.max_pixels, what)
    return photo, mask, name if name is not None else photo.name if photo.name != "photo" else None


def _learn(service: Service, photo: Upload, mask: Upload, id: str, *, replace: bool) -> Learnt:
    most = service.settings.max_pixels
    with (
        on_disk(photo.content, check_image(photo.content, most)) as image,
        on_disk(mask.content, check_image(mask.content, most), name="mask") as labels,
    ):
        source = MaskFile(labels, service.memory.last.classes)
        return service.memory.learn(image, source, id, replace_known=replace, classes=source.classes)


def _learnt_json(learnt: Learnt) -> dict[str, Any]:
    return {"number": learnt.number, "patches": learnt.patches, "version": learnt.version}


def _totals(service: Service, survey: Survey) -> dict[int, npt.NDArray[np.float64]]:
    """Summed labels (C,) of each image by the number of its first epoch."""
    first: dict[tuple[str, str], int] = {}
    totals: dict[int, npt.NDArray[np.float64]] = {}
    for record in sorted(service.memory.segmenter.images, key=lambda record: record.number):
        if record.removed or record.number not in survey.shares:
            continue
        number = first.setdefault((record.id, record.sha256), record.number)
        totals[number] = totals.get(number, 0.0) + survey.shares[record.number]
    return totals


def _entry(record: ImageRecord, state: State, totals: dict[int, npt.NDArray[np.float64]]) -> dict[str, Any]:
    sums = totals.get(record.number)
    shares = {} if sums is None else named_shares(sums, state.classes.names)
    return {
        "number": record.number,
        "id": record.id,
        "patches": state.patches[record.number],
        "added": record.number in state.added,
        "taught": record.id.startswith(TAUGHT),
        "classes": shares,
        "thumbnail": thumbnail_address(record.number),
    }


def named_shares(sums: npt.NDArray[np.float64], names: tuple[str, ...]) -> dict[str, float]:
    """Summed labels (C,) as shares of the classes that occur, largest first."""
    total = max(float(sums.sum()), 1e-12)
    order = np.argsort(-sums, kind="stable")
    return {names[c]: round(float(sums[c]) / total, 4) for c in order.tolist() if c < len(names) and sums[c]}
