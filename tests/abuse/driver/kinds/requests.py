"""Requests to the service: bodies, forms, headers, ids and paths of every kind."""

from __future__ import annotations

import json
import os
import shutil
from typing import Any

from ..case import Case, FaultError, RefusedError, check_text
from .memory import verified
from .routes import wild_request

_SERVED: dict[str, Any] = {}
_BUSY = (429, 503)


def _client(case: Case) -> Any:
    """The service's client, made once in a process over an index of its own."""
    if "client" not in _SERVED:
        from starlette.testclient import TestClient

        from segmentation.segmenter import Segmenter
        from segmentation.service.app import create_app
        from segmentation.service.settings import ServiceSettings

        index = case.fixed.parent / f"served-{os.getpid()}"
        shutil.copytree(case.path("i.index"), index)
        settings = ServiceSettings(max_bytes=2 * 2**20, max_pixels=1_000_000, cache_bytes=2**24)
        app = create_app(lambda: Segmenter.open(index), index, settings=settings)
        client = TestClient(app, base_url="http://localhost", raise_server_exceptions=False)
        client.__enter__()
        _SERVED.update(client=client, index=index, ids=["0" * 32])
    return _SERVED["client"]


def request(case: Case) -> None:
    """One request; the answer is one of ours, tells of no path of this machine, and the index is whole."""
    client, random = _client(case), case.random
    method, path, options = wild_request(case, _SERVED["ids"])
    case.tried = f"{method} {path!r:.200} { ({key: f'{value!r:.300}' for key, value in options.items()}) }"
    case.freeze()
    try:
        answer = client.request(method, path, **options)
    except (UnicodeError, ValueError, TypeError) as error:
        raise RefusedError(f"no client sends it: {error!r:.200}") from error
    except Exception as error:
        if type(error).__module__.startswith(("httpx", "h11")):
            raise RefusedError(f"no client sends it: {error!r:.200}") from error
        raise
    if random.random() < 0.02:
        verified(_SERVED["index"])
    _judge(case, answer)


def _judge(case: Case, answer: Any) -> None:
    for text in (os.fspath(case.fixed.parent), "Traceback", "site-packages"):
        if text in (
            answer.text if answer.headers.get("content-type", "").startswith("application/json") else ""
        ):
            raise FaultError(f"the answer tells of {text!r}: {answer.text[:500]}")
    status = answer.status_code
    if status < 400:
        if (
            status < 300
            and answer.headers.get("content-type", "").startswith("application/json")
            and answer.content
        ):
            body = json.loads(answer.content, parse_constant=_no_number)
            if isinstance(body, dict) and isinstance(body.get("id"), str):
                _SERVED["ids"] = [*_SERVED["ids"][-5:], body["id"]]
        return
    if status >= 500 and status not in (*_BUSY, 501):
        raise FaultError(f"status {status}: {answer.text[:500]}")
    if not answer.content and answer.request.method == "HEAD":
        raise RefusedError(f"{status}")
    error = answer.json().get("error", {}) if answer.content else {}
    if not isinstance(error.get("message"), str):
        raise FaultError(f"status {status} without a sentence: {answer.text[:300]}")
    check_text(error["message"])
    raise RefusedError(f"{status} {error['message']}")


def _no_number(text: str) -> None:
    raise FaultError(f"{text} in an answer")
