"""Who may ask what: keys, roles, hosts, origins, and the headers of every answer."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import ipaddress
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from retrieval.errors import ConfigError
from segmentation.service.errors import ServiceError

READ, WRITE = "read", "write"

#: The environment's variable of keys.
ENVIRONMENT = "MYCELIA_KEYS"

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

#: On every answer.
HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}

#: What anybody may see: whether it lives, and the page, which asks for the key.
_OPEN = ("/", "/health", "/healthz", "/readyz", "/openapi.json", "/favicon.ico")

#: Posts that change nothing.
_READING = re.compile(r"/v1/(segment(/[^/]*)?|explain|jobs(/.*)?)|/predict|/setup")

_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Keys:
    """SHA-256 digests (hexadecimal) of keys, and the role of each; no key itself is kept."""

    roles: Mapping[str, str]

    def __bool__(self) -> bool:
        return bool(self.roles)

    def role_of(self, key: str) -> str | None:
        """The role of a key, or None; takes as long for a key that is nearly right."""
        digest = hashlib.sha256(key.encode()).hexdigest()
        found = None
        for known, role in self.roles.items():
            if hmac.compare_digest(known, digest):
                found = role
        return found

    @classmethod
    def parse(cls, text: str, *, where: str) -> Keys:
        """Keys as ``read:SHA256`` and ``write:SHA256``, by lines, spaces or commas; ``#`` begins a comment.

        Raises ConfigError for anything else, without repeating it.
        """
        roles: dict[str, str] = {}
        words = [word for line in text.splitlines() for word in re.split(r"[\s,]+", line.partition("#")[0])]
        for number, word in enumerate(filter(None, words), start=1):
            role, _, digest = word.partition(":")
            if role not in (READ, WRITE) or not re.fullmatch("[0-9a-f]{64}", digest):
                raise ConfigError(
                    f"entry {number} of {where} should be read:DIGEST or write:DIGEST, the DIGEST being the "
                    "key's SHA-256 in 64 hexadecimal digits (printf %s KEY | sha256sum)"
                )
            roles[digest] = role
        return cls(roles)

    @classmethod
    def load(cls, file: Path | None, environment: Mapping[str, str] = os.environ) -> Keys:
        """Those of a file, or else of the environment; raises ConfigError."""
        if file is None:
            return cls.parse(environment.get(ENVIRONMENT, ""), where=ENVIRONMENT)
        try:
            return cls.parse(file.read_text(encoding="utf-8"), where=str(file))
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"the file of keys {file} cannot be read ({error})") from None


def is_loopback(host: str) -> bool:
    """Whether nobody but this machine reaches an address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def needs_key(path: str) -> bool:
    """Whether a path is not for everybody."""
    return path not in _OPEN and not path.startswith("/assets/")


def role_for(method: str, path: str) -> str:
    """The role that a request needs."""
    return READ if method in ("GET", "HEAD") or _READING.fullmatch(path) else WRITE


def check_key(keys: Keys, headers: Headers, method: str, path: str) -> None:
    """Raise ServiceError 401 without a known key, 403 where its role does not suffice."""
    if not keys or not needs_key(path):
        return
    role = keys.role_of(_key_in(headers.get("authorization", "")))
    if role is None:
        raise ServiceError(
            401,
            "no_key",
            "send a known key: Authorization: Bearer KEY",
            headers={"WWW-Authenticate": 'Bearer realm="mycelia"'},
        )
    if role != WRITE and role_for(method, path) == WRITE:
        raise ServiceError(403, "read_only_key", "this key may ask, but not change the memory")


def _key_in(value: str) -> str:
    """The key of an Authorization header: a bearer's, or the password of basic authentication."""
    scheme, _, rest = value.partition(" ")
    if scheme.lower() == "bearer":
        return rest.strip()
    if scheme.lower() == "basic":  # all that Label Studio can send
        try:
            return base64.b64decode(rest, validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError, ValueError):
            return ""
    return ""


class Hosts:
    """By which names the service is addressed, so that no name of somebody else's leads scripts to it."""

    def __init__(self, bound: str, names: Iterable[str]) -> None:
        self._names = {name.lower() for name in (*names, *_LOOPBACK_NAMES, bound.strip("[]"))}
        self._addresses = not is_loopback(bound)

    def check(self, headers: Headers) -> None:
        """Raise ServiceError 400 for a ``Host`` that is another's."""
        try:
            name = (urlsplit(f"//{headers.get('host', '')}").hostname or "").lower()
        except ValueError:
            name = ""
        if name in self._names or (self._addresses and _is_address(name)):
            return
        raise ServiceError(
            400, "unknown_host", "the Host header names no host of this service; start it with --allow-host"
        )


def check_origin(headers: Headers, method: str, origins: Iterable[str]) -> None:
    """Raise ServiceError 403 where a page from elsewhere would change or upload something."""
    origin = headers.get("origin")
    if method in ("GET", "HEAD", "OPTIONS") or origin is None or origin in origins:
        return
    if urlsplit(origin).netloc.lower() != headers.get("host", "").lower():
        raise ServiceError(403, "foreign_origin", "pages of another origin may not ask; see --origin")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
