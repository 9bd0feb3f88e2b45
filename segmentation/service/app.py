"""The application: one index behind HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse

from retrieval.errors import ConfigError
from segmentation.segmenter import Segmenter
from segmentation.service.errors import ServiceError
from segmentation.service.memory import Memory
from segmentation.service.middleware import Guard
from segmentation.service.openapi import REFUSALS
from segmentation.service.routes import ROUTERS
from segmentation.service.security import Keys, is_loopback
from segmentation.service.settings import ServiceSettings
from segmentation.service.state import Service

_ABOUT = """Segmentation by retrieval: photos in, masks out, and a memory that learns while it is asked.

Coordinates are (row, col) in pixels of the upright photo. A column is a class's place in `classes`; 255 (in
uint16, 65535) is nothing. Every JSON answer has the `version` of the memory that it is of.
"""


def create_app(
    open_segmenter: Callable[[], Segmenter],
    path: str | Path,
    *,
    settings: ServiceSettings | None = None,
    keys: Keys | None = None,
) -> FastAPI:
    """The application over the index at ``path``, which ``open_segmenter`` opens when the service starts.

    Raises ConfigError for a service that others reach and that asks for no key.
    """
    settings, keys = settings or ServiceSettings(), keys or Keys({})
    if not keys and not is_loopback(settings.host):
        raise ConfigError(
            f"{settings.host} is reached from other machines, so the service needs keys: give --keys FILE or "
            "set MYCELIA_KEYS (read:DIGEST,write:DIGEST), or listen on 127.0.0.1"
        )

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        segmenter = await asyncio.to_thread(open_segmenter)
        service = Service(Memory(segmenter, path), settings)
        app.state.service = service
        try:
            yield
        finally:
            app.state.service = None
            await asyncio.to_thread(service.close)

    app = FastAPI(
        title="Mycelia",
        description=_ABOUT,
        lifespan=lifespan,
        docs_url=None,  # its page loads scripts from elsewhere
        redoc_url=None,
        openapi_url="/openapi.json",
    )
    for router in ROUTERS:
        app.include_router(router, responses=REFUSALS)
    _handle_errors(app)
    if settings.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.origins),
            allow_methods=["GET", "POST", "PUT", "DELETE"],
            allow_headers=["Authorization", "Content-Type"],
        )
    app.add_middleware(Guard, keys=keys, settings=settings)
    return app


def _handle_errors(app: FastAPI) -> None:
    """The framework's own refusals in the shape of ours; the rest is the guard's."""

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> JSONResponse:
        code = {404: "not_found", 405: "method"}.get(error.status_code, "bad_request")
        answer = ServiceError(error.status_code, code, f"{error.detail}".rstrip(".").lower())
        return JSONResponse(answer.body(), answer.status, dict(error.headers or {}))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        answer = ServiceError(422, "invalid", f"{place}: {first['msg']}")
        return JSONResponse(answer.body(), answer.status)
