"""The page, and what Label Studio asks at the same address."""

from __future__ import annotations

from functools import cache
from importlib import resources

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from segmentation.service.errors import not_found

router = APIRouter(tags=["page"])

#: What says to Label Studio that this is a model.
UP = {"status": "UP", "model_class": "Mycelia"}

_MEDIA = {
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "mjs": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "svg": "image/svg+xml",
    "png": "image/png",
    "ico": "image/x-icon",
    "webp": "image/webp",
    "jpg": "image/jpeg",
    "json": "application/json",
    "woff2": "font/woff2",
}


@cache
def page_files() -> dict[str, bytes]:
    """The page's files by their names below its folder: the only ones that are ever sent."""
    found: dict[str, bytes] = {}
    folders = [("", resources.files("segmentation.service") / "page")]
    while folders:
        prefix, folder = folders.pop()
        if not folder.is_dir():
            continue
        for item in folder.iterdir():
            if item.is_dir():
                folders.append((f"{prefix}{item.name}/", item))
            elif item.name.rpartition(".")[2] in _MEDIA:
                found[f"{prefix}{item.name}"] = item.read_bytes()
    return found


@router.get("/", summary="The page, or the status as JSON", response_model=None)
async def root(request: Request) -> Response:
    """The page for a browser (``Accept: text/html``), else what Label Studio wants to hear."""
    if "text/html" in request.headers.get("accept", "") and "index.html" in page_files():
        return _file("index.html")
    return JSONResponse(UP)


@router.get("/health", summary="The status as Label Studio asks for it")
async def health() -> dict[str, str]:
    """Up."""
    return UP


@router.get("/assets/{name:path}", summary="A file of the page", response_class=Response)
async def asset(name: str) -> Response:
    """Of a fixed list."""
    if name not in page_files():
        raise not_found("the page has no such file")
    return _file(name)


def _file(name: str) -> Response:
    media_type = _MEDIA[name.rpartition(".")[2]]
    return Response(page_files()[name], media_type=media_type, headers={"Cache-Control": "no-cache"})
