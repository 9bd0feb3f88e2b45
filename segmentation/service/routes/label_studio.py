"""Label Studio's machine learning backend: predictions for tasks, and annotations learnt as they are made.

Source: labelstud.io/guide/ml_create and labelstud.io/guide/webhooks; the requests of label-studio-ml-backend.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import Any

from fastapi import APIRouter, Request

from indexer.datasets.tools.label_studio import drawn_results, labels_of
from retrieval.errors import MyceliaError
from retrieval.json_text import ParseError, parse_json
from segmentation.service.errors import ServiceError, bad_request, refusal_of
from segmentation.service.fetch import photo_of
from segmentation.service.painted import with_classes
from segmentation.service.routes.page import UP
from segmentation.service.state import Service, service_of, while_wanted
from segmentation.service.studio import Interface, no_prediction
from segmentation.service.uploads import Upload, check_image, on_disk, read_body

router = APIRouter(tags=["label studio"])
LOG = logging.getLogger("mycelia.service")

#: Tasks of one request.
MOST_TASKS = 64
#: Seconds that a webhook's answer waits for the memory; Label Studio itself waits for one.
WAIT = 0.7

_LEARNT = ("ANNOTATION_CREATED", "ANNOTATION_UPDATED")
_FORGOTTEN = ("ANNOTATION_DELETED", "ANNOTATIONS_DELETED")


@router.post("/setup", summary="Label Studio begins to use a project")
async def setup(request: Request) -> dict[str, Any]:
    """Answers at once: everything is loaded already."""
    version = service_of(request).memory.last.version
    return {**UP, "model_version": f"mycelia-{version}", "version": version}


@router.post("/predict", summary="Predictions for tasks")
async def predict(request: Request) -> dict[str, Any]:
    """One result for each task, in their order; an empty one where its image cannot be had."""
    service = service_of(request)
    body = await _json(request, service)
    tasks = body.get("tasks")
    if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
        raise bad_request("send tasks, a list of objects")
    if len(tasks) > MOST_TASKS:
        raise bad_request(f"send at most {MOST_TASKS} tasks at once")
    interface = Interface.parse(body.get("label_config"))
    work = asyncio.gather(*(_predict(service, interface, task) for task in tasks))
    results = await while_wanted(request, work)
    return {"results": results, "version": service.memory.last.version}


@router.post("/webhook", summary="An annotation was made, changed or deleted", status_code=201)
async def webhook(request: Request) -> dict[str, Any]:
    """The memory learns the annotation in place of its former self, or forgets it."""
    service = service_of(request)
    body = await _json(request, service)
    action = body.get("action")
    if action not in (*_LEARNT, *_FORGOTTEN):
        return {"status": "ignored", "version": service.memory.last.version}
    learn = _learn if action in _LEARNT else _forget
    work = asyncio.ensure_future(service.change("webhook", lambda: learn(service, body)))
    done, _ = await asyncio.wait({work}, timeout=WAIT)
    if not done:
        work.add_done_callback(_tell)
        return {"status": "learning", "version": service.memory.last.version}
    work.result()
    return {"status": "learnt", "version": service.memory.last.version}


def _tell(work: asyncio.Future[Any]) -> None:
    if not work.cancelled() and work.exception() is not None:
        LOG.warning("an annotation was not learnt: %s", work.exception())


async def _json(request: Request, service: Service) -> dict[str, Any]:
    content = await read_body(request, 2 * service.settings.max_bytes)
    try:
        body = parse_json(content)
    except ParseError:
        raise bad_request("the body is no JSON") from None
    if not isinstance(body, dict):
        raise bad_request("the body is no JSON object")
    return body


async def _predict(service: Service, interface: Interface, task: dict[str, Any]) -> dict[str, Any]:
    try:
        content = await service.aside(partial(_photo, service, interface.address(task)))
        seen = await service.see(Upload(content, "image"))
        state, result = await service.scheduler.call(partial(service.memory.label, seen.description))
        return await service.aside(interface.prediction, result, state.classes, state.version)
    except (ServiceError, MyceliaError) as error:
        refusal = error if isinstance(error, ServiceError) else refusal_of(error)
        if refusal.status in (429, 503):
            raise
        return no_prediction(service.memory.last.version, refusal.message)


def _photo(service: Service, address: Any) -> bytes:
    settings = service.settings
    return photo_of(address, studio=settings.label_studio, most=settings.max_bytes)


def _learn(service: Service, body: dict[str, Any]) -> None:
    """Learn an annotation, or forget one that paints nothing any more."""
    annotation, task = _part(body, "annotation"), _part(body, "task")
    results = annotation.get("result")
    project = body.get("project")
    config = project.get("label_config") if isinstance(project, dict) else None
    names = sorted(set(labels_of(results))) if isinstance(results, list) else []
    if not isinstance(results, list) or not names:
        _forget(service, body)
        return
    content = _photo(service, Interface.parse(config).address(task))
    suffix = check_image(content, service.settings.max_pixels)
    classes = with_classes(service.memory.last.classes, names)
    columns = {name: classes.names.index(name) for name in names}
    with on_disk(content, suffix) as image:
        labels = drawn_results(image, results, columns, where="the annotation")
        id = _id(task.get("id"), annotation.get("id"))
        service.memory.learn(image, labels, id, replace_known=True, classes=classes)


def _forget(service: Service, body: dict[str, Any]) -> None:
    """Take the images of deleted annotations out of the memory, where they are in it."""
    listed = body.get("annotations")
    given = listed if isinstance(listed, list) else [body.get("annotation")]
    endings = tuple(_id("", one.get("id")) for one in given if isinstance(one, dict))
    for record in service.memory.newest_images():
        if any(_is_of(record.id, ending) for ending in endings):
            service.memory.remove(record.number)


def _id(task: Any, annotation: Any) -> str:
    """The id in the memory of an annotation; with an empty task, how it ends."""
    if not isinstance(annotation, int | str) or not isinstance(task, int | str):
        raise bad_request("the annotation or its task has no id")
    ending = f"-annotation-{str(annotation)[:40]}"
    return f"label-studio-{str(task)[:40]}{ending}" if task != "" else ending


def _is_of(id: str, ending: str) -> bool:
    return id.startswith("label-studio-") and id.endswith(ending)


def _part(body: dict[str, Any], name: str) -> dict[str, Any]:
    part = body.get(name)
    if not isinstance(part, dict):
        raise bad_request(f"the event has no {name}")
    return part
