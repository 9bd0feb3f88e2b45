"""Refusals as HTTP answers: a status, a code for programs, one sentence for people."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping

from retrieval.errors import (
    ConfigError,
    DataError,
    IndexBusyError,
    IndexFileError,
    MissingExtraError,
    MyceliaError,
    ServerError,
    StorageError,
)

LOG = logging.getLogger("mycelia.service")

#: Characters of a sentence that are sent.
LONGEST = 1000

#: Anything that reads as an absolute path of this machine, of two parts or more.
_PATH = re.compile(r"(?<![\w/:])/(?:[^\s/:;,()'\"]+/)+([^\s/:;,()'\"]*)")

#: What a sentence says where the details are nobody's business but the log's.
_PLAIN = {
    "index": "the index cannot be used at the moment; the service's log says why",
    "storage": "the index cannot be written (disk full or read-only); the service's log says more",
    "upstream": "the vector database does not answer; try again later",
}


class ServiceError(Exception):
    """A request is refused, with a status of HTTP and a sentence."""

    def __init__(
        self, status: int, code: str, message: str, *, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = _shortened(message)
        self.headers = dict(headers or {})

    def body(self) -> dict[str, dict[str, str]]:
        """The JSON of the answer."""
        return {"error": {"code": self.code, "message": self.message}}


def _shortened(text: str) -> str:
    """A sentence of bounded length: what was sent is not sent back whole."""
    if len(text) <= LONGEST:
        return text
    half, left = LONGEST // 2, len(text) - LONGEST
    return f"{text[:half]} ... ({left:,} characters left out) ... {text[-half:]}"


def too_large(message: str) -> ServiceError:
    """413."""
    return ServiceError(413, "too_large", message)


def too_many(message: str, *, after: int = 1) -> ServiceError:
    """429, with the seconds after which to try again."""
    return ServiceError(429, "busy", message, headers={"Retry-After": str(after)})


def not_found(message: str) -> ServiceError:
    """404."""
    return ServiceError(404, "not_found", message)


def bad_request(message: str) -> ServiceError:
    """400."""
    return ServiceError(400, "bad_request", message)


def without_paths(text: str) -> str:
    """A sentence with the absolute paths in it cut down to their last parts."""
    return _PATH.sub(lambda found: found[1], text)


def refusal_of(error: MyceliaError) -> ServiceError:
    """The HTTP answer to an error of the packages; what tells of this machine goes to the log alone."""
    if isinstance(error, IndexBusyError):
        return ServiceError(
            503, "index_busy", "another process changes the index; try again", headers={"Retry-After": "2"}
        )
    if isinstance(error, DataError | ConfigError):
        return ServiceError(422, "invalid", without_paths(str(error)))
    if isinstance(error, MissingExtraError):
        return ServiceError(501, "missing_extra", without_paths(str(error)))
    LOG.error("%s", error)
    if isinstance(error, StorageError):
        return ServiceError(507, "storage", _PLAIN["storage"])
    if isinstance(error, ServerError):
        return ServiceError(502, "upstream", _PLAIN["upstream"])
    if isinstance(error, IndexFileError):
        return ServiceError(503, "index", _PLAIN["index"])
    return ServiceError(500, "internal", "the service failed; its log says more")
