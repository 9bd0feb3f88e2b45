"""The way to a Qdrant server: client, key, repetitions and what its refusals mean."""

from __future__ import annotations

import importlib
import json
import logging
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

from retrieval.engines.qdrant.nodes import Nodes
from retrieval.engines.qdrant.settings import MEMORY, QdrantSettings, is_plain
from retrieval.errors import ConfigError, IndexFileError, MissingExtraError, MyceliaError, ServerError

_LOG = logging.getLogger("mycelia")

#: The only place a key is read from.
KEY_VARIABLE = "QDRANT_API_KEY"

#: Where Qdrant listens for REST.
_REST_PORT = 6333

#: The first pause before a request is sent again; each further one is three times as long, 10 s at most.
_FIRST_PAUSE = 0.5

#: Milliseconds for a connection to one of several nodes; gRPC's own limit is 20 s.
_CONNECT_MS = 5000

#: What may be repeated: the server was away, overloaded or lost a race. All our requests are idempotent.
_REPEATED = ["UNAVAILABLE", "RESOURCE_EXHAUSTED", "ABORTED"]

#: What another node may do better: one did not answer in time, or was stopped in the middle.
_ASKED_ELSEWHERE = ["DEADLINE_EXCEEDED", "CANCELLED"]

#: ``Path`` makes one slash of two.
_ADDRESS = re.compile(r"^(qdrants?):/{1,2}(?=[^/])")


def load_client() -> Any:
    """The ``qdrant_client`` module; raises MissingExtraError, naming the extra, where it is missing."""
    try:
        return importlib.import_module("qdrant_client")
    except ImportError as error:
        raise MissingExtraError(
            "a Qdrant server needs qdrant-client, which is not installed; run `pip install mycelia[qdrant]`"
        ) from error


def is_address(path: str | Path) -> bool:
    """Whether an index is named by ``qdrant://HOST:PORT/COLLECTION`` (``qdrants://`` for TLS)."""
    return _ADDRESS.match(str(path)) is not None


def parse_address(address: str | Path) -> QdrantSettings:
    """The server and the collection of a ``qdrant://HOST:PORT/COLLECTION`` address. Raises ConfigError.

    There may be several HOST:PORT with commas between, nodes of one cluster. The port is that of REST, 6333
    where none is given; gRPC is taken to be the next one.
    """
    text = _ADDRESS.sub(r"\1://", str(address))
    scheme, _, rest = text.partition("://")
    hosts, slash, path = rest.partition("/")
    urls = []
    for host in hosts.split(","):
        parts, port = _split(f"{scheme}://{host}{slash}{path}")
        collection = parts.path.strip("/")
        if not parts.hostname or not collection or "/" in collection or "@" in parts.netloc or parts.query:
            raise ConfigError(
                f"{text.rpartition('@')[2]!r} is no address of a collection; write "
                "qdrant://HOST:6333/COLLECTION, without any key or password, or several HOST:6333 with "
                "commas between"
            )
        name = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        urls.append(f"{'https' if scheme == 'qdrants' else 'http'}://{name}:{port}")
    return QdrantSettings(url=",".join(urls), collection=collection)


def _split(text: str) -> tuple[SplitResult, int]:
    """An address in parts, and its port. Raises ConfigError for one that has none of 1..65534."""
    try:
        parts = urlsplit(text)
        port = _REST_PORT if parts.port is None else parts.port
        if not 1 <= port <= 65534:  # gRPC has the next one
            raise ValueError("a port is 1..65534")
    except ValueError as error:
        shown = text.rpartition("@")[2][:100]
        raise ConfigError(
            f"{shown!r} is no address of a collection ({error}); write qdrant://HOST:6333/COLLECTION, and a "
            "HOST of IPv6 in brackets"
        ) from error
    return parts, port


def connect(settings: QdrantSettings) -> Any:
    """A client of the server in the settings; it connects at the first request.

    gRPC repeats what failed for a passing reason, with growing pauses, within ``settings.timeout``.
    Over REST only the making of a connection is repeated. Of several addresses the next one is asked
    instead: see :class:`Nodes`.
    """
    client = load_client()
    if settings.url is None:
        raise ConfigError("a Qdrant server needs its address: set index.qdrant.url=http://HOST:6333")
    if settings.url == MEMORY:
        return client.QdrantClient(MEMORY)
    if len(settings.urls) == 1:
        return _connect_one(client, settings, settings.url, settings.attempts)
    return Nodes(
        settings.urls,
        lambda url: _connect_one(client, settings, url, 1),
        passing=lambda error: _status(error)[0] in (*_REPEATED, *_ASKED_ELSEWHERE),
        attempts=settings.attempts,
        timeout=settings.timeout,
        pause=_FIRST_PAUSE,
    )


def _connect_one(client: Any, settings: QdrantSettings, url: str, attempts: int) -> Any:
    """A client of one address, which sends each request so many times."""
    transport: dict[str, Any] = {}
    if not settings.grpc:
        httpx = importlib.import_module("httpx")
        transport["transport"] = httpx.HTTPTransport(retries=attempts - 1)
    key = os.environ.get(KEY_VARIABLE) or None
    if key is not None and is_plain(url):
        _say_plain(url)
    with warnings.catch_warnings():
        # ours is said once, and where it is true
        warnings.filterwarnings("ignore", message="Api key is used with an insecure connection")
        return client.QdrantClient(
            url=url,
            grpc_port=settings.grpc_port_of(url),
            prefer_grpc=settings.grpc,
            timeout=settings.timeout,
            api_key=key,
            grpc_options={
                "grpc.service_config": _service_config(attempts),
                "grpc.enable_retries": 1,
                **({"grpc.min_reconnect_backoff_ms": _CONNECT_MS} if len(settings.urls) > 1 else {}),
            },
            check_compatibility=False,
            **transport,
        )


@cache
def _say_plain(url: str) -> None:
    _LOG.warning("the key of %s is sent unencrypted; anyone on the way can read it: use https://", url)


@contextmanager
def server_errors(settings: QdrantSettings) -> Iterator[None]:
    """Turn what the client raises into errors of ours: what happened, at which server, what to do."""
    try:
        yield
    except (MyceliaError, OSError):
        raise
    except Exception as error:
        code, detail = _status(error)
        if code is None:
            raise
        raise _explain(settings, code, _without_key(detail)) from None


def _service_config(attempts: int) -> str:
    if attempts < 2:
        return "{}"
    policy = {
        "maxAttempts": attempts,
        "initialBackoff": f"{_FIRST_PAUSE}s",
        "maxBackoff": "10s",
        "backoffMultiplier": 3,
        "retryableStatusCodes": _REPEATED,
    }
    return json.dumps({"methodConfig": [{"name": [{}], "retryPolicy": policy}]})


def _status(error: Exception) -> tuple[str | None, str]:
    """The gRPC name of a server's failure and its text, whichever way it came; None for anything else."""
    grpc = importlib.import_module("grpc")
    exceptions = importlib.import_module("qdrant_client.http.exceptions")
    common = importlib.import_module("qdrant_client.common.client_exceptions")
    if isinstance(error, grpc.RpcError) and isinstance(error, grpc.Call):
        return error.code().name, str(error.details())
    if isinstance(error, common.ResourceExhaustedResponse):
        return "RESOURCE_EXHAUSTED", str(error)
    if isinstance(error, exceptions.UnexpectedResponse):
        known = {
            401: "UNAUTHENTICATED",
            403: "PERMISSION_DENIED",
            404: "NOT_FOUND",
            429: "RESOURCE_EXHAUSTED",
        }
        code = known.get(
            error.status_code or 0, "UNAVAILABLE" if (error.status_code or 0) >= 500 else "INTERNAL"
        )
        return code, bytes(error.content or b"").decode(errors="replace")[:300]
    if isinstance(error, exceptions.ResponseHandlingException):
        timed_out = "timed out" in str(error).lower() or "Timeout" in type(error.source).__name__
        return "DEADLINE_EXCEEDED" if timed_out else "UNAVAILABLE", str(error)
    if isinstance(error, ValueError) and "not found" in str(error):  # the client's own in-memory store
        return "NOT_FOUND", str(error)
    return None, ""


def _explain(settings: QdrantSettings, code: str, detail: str) -> MyceliaError:
    where = " or ".join(
        f"{url} (gRPC port {settings.grpc_port_of(url)})" if settings.grpc else url for url in settings.urls
    )
    again = "what was uploaded stays, and the same command run again finishes the work"
    if code in ("UNAUTHENTICATED", "PERMISSION_DENIED"):
        return ServerError(
            f"the Qdrant server at {where} refuses the key; put the right one into the environment variable "
            f"{KEY_VARIABLE}, which {'is set' if os.environ.get(KEY_VARIABLE) else 'is not set'}"
        )
    if code == "NOT_FOUND":
        return IndexFileError(
            f"the Qdrant server at {where} has no collection {settings.collection!r}; "
            "check the name, or build it"
        )
    if code == "DEADLINE_EXCEEDED":
        return ServerError(
            f"the Qdrant server at {where} did not answer within {settings.timeout} s; raise "
            f"index.qdrant.timeout or give it less at a time; {again}"
        )
    if code == "RESOURCE_EXHAUSTED":
        return ServerError(f"the Qdrant server at {where} is out of a resource ({detail}); {again}")
    if code == "UNAVAILABLE":
        return ServerError(f"no Qdrant server answers at {where}: {detail}; start it or wait for it; {again}")
    return ServerError(f"the Qdrant server at {where} failed ({code}: {detail}); {again}")


def _without_key(text: str) -> str:
    key = os.environ.get(KEY_VARIABLE)
    one_line = " ".join(text.split())
    return one_line.replace(key, "***") if key else one_line
