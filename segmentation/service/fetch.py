"""Photos of one Label Studio: fetched from its address alone, or out of the request itself."""

from __future__ import annotations

import base64
import binascii
import re
import urllib.error
import urllib.request
from http.client import HTTPException
from typing import Any
from urllib.parse import urljoin, urlsplit

from segmentation.service.errors import ServiceError, bad_request, too_large
from segmentation.service.settings import LabelStudioSettings

#: Seconds that Label Studio may take for a photo.
TIMEOUT = 20.0

_DATA = re.compile(r"data:image/[\w.+-]+;base64,", re.ASCII)


def photo_of(address: Any, *, studio: LabelStudioSettings | None, most: int) -> bytes:
    """The bytes of a photo that a task names: a data URI, or an address of the Label Studio given.

    Paths (``/data/upload/...``) are below its address. Nothing else is asked, whatever it is called, and no
    redirection is followed. Raises ServiceError.
    """
    if not isinstance(address, str) or not address:
        raise bad_request("a task names no image")
    begun = _DATA.match(address)
    if begun:
        return _inline(address[begun.end() :], most)
    if studio is None:
        raise ServiceError(
            422, "no_label_studio", "images of addresses need --label-studio-url; data URIs work without"
        )
    return _fetch(_below(address, studio), studio, most)


def _inline(text: str, most: int) -> bytes:
    if len(text) > most * 4 // 3 + 4:
        raise too_large(f"an image has more than {most:,} bytes, the limit")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise bad_request("a data URI of a task is no base64") from None


def _below(address: str, studio: LabelStudioSettings) -> str:
    """The address to ask: of the same scheme, host and port as Label Studio's, or refused."""
    base = studio.url.rstrip("/")
    try:
        full = urljoin(f"{base}/", f"{urlsplit(base).path}{address}" if address[:1] == "/" else address)
        asked, known = urlsplit(full), urlsplit(base)
        same = (asked.scheme, asked.hostname, asked.port) == (known.scheme, known.hostname, known.port)
    except ValueError:
        raise bad_request("the address of an image cannot be read") from None
    plain = all(32 < ord(c) < 127 for c in full) and "@" not in asked.netloc and "\\" not in full
    if not same or not plain or not address.startswith(("/", "http://", "https://")) or address[:2] == "//":
        raise ServiceError(
            422, "foreign_address", "images are fetched from the address of --label-studio-url alone"
        )
    return full


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """An answer that leads elsewhere is an error."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        """Never."""
        return None


def _fetch(address: str, studio: LabelStudioSettings, most: int) -> bytes:
    headers = {"Authorization": f"Token {studio.token}"} if studio.token else {}
    request = urllib.request.Request(address, headers=headers)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirects)
    try:
        with opener.open(request, timeout=TIMEOUT) as answer:
            content: bytes = answer.read(most + 1)
    except urllib.error.HTTPError as problem:
        problem.close()
        raise ServiceError(422, "not_fetched", f"Label Studio answered {problem.code} for an image") from None
    except (OSError, HTTPException, ValueError):
        raise ServiceError(422, "not_fetched", "Label Studio did not give an image") from None
    if len(content) > most:
        raise too_large(f"an image has more than {most:,} bytes, the limit")
    return content
