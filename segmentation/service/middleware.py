"""Around every request: host, origin, key, headers, count, and a plain sentence for what went wrong."""

from __future__ import annotations

import logging
import secrets
import time

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from retrieval.errors import MyceliaError
from segmentation.service.errors import ServiceError, refusal_of
from segmentation.service.security import HEADERS, Hosts, Keys, check_key, check_origin
from segmentation.service.settings import ServiceSettings
from segmentation.service.state import ClientGoneError

LOG = logging.getLogger("mycelia.service")

#: The status that logs and counts give a request whose client has gone (nginx's).
GONE = 499


class Guard:
    """The outermost layer of the service."""

    def __init__(self, app: ASGIApp, *, keys: Keys, settings: ServiceSettings) -> None:
        self._app = app
        self._keys = keys
        self._origins = settings.origins
        self._hosts = Hosts(settings.host, settings.hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status, id = time.perf_counter(), 0, secrets.token_hex(8)

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("Cache-Control", "no-store")
                headers["X-Request-Id"] = id
            await send(message)

        try:
            self._check(scope)
            await self._app(scope, receive, sending)
        except ClientGoneError:
            status = GONE
        except Exception as error:
            answer = _answer_to(error, id)
            if status:  # an answer was begun: all that is left is to break it off
                raise
            await JSONResponse(answer.body(), answer.status, answer.headers)(scope, receive, sending)
        finally:
            _count(scope, status, time.perf_counter() - began, id)

    def _check(self, scope: Scope) -> None:
        headers, method, path = Headers(scope=scope), scope["method"], scope["path"]
        self._hosts.check(headers)
        check_origin(headers, method, self._origins)
        if method != "OPTIONS":
            check_key(self._keys, headers, method, path)


def _answer_to(error: Exception, id: str) -> ServiceError:
    if isinstance(error, ServiceError):
        return error
    if isinstance(error, MyceliaError):
        return refusal_of(error)
    LOG.error("request %s failed", id, exc_info=error)
    return ServiceError(
        500, "internal", f"the service failed at this request; its log has the details under {id}"
    )


def _count(scope: Scope, status: int, seconds: float, id: str) -> None:
    route = getattr(scope.get("route"), "path", "other")
    service = getattr(scope["app"].state, "service", None) if "app" in scope else None
    if service is not None:
        service.metrics.requests.labels(scope["method"], route, str(status)).inc()
        service.metrics.seconds.labels(route).observe(seconds)
    LOG.info(
        "%s %s %d %.0f ms",
        *(scope["method"], route, status, 1000 * seconds),
        extra={"request": id, "status": status, "milliseconds": round(1000 * seconds, 1)},
    )
