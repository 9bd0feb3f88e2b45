"""What a service allows and how much it holds."""

from __future__ import annotations

from dataclasses import dataclass, field

MIB = 2**20


@dataclass(frozen=True)
class LabelStudioSettings:
    """The one Label Studio whose photos may be fetched."""

    url: str
    """``http(s)://HOST[:PORT]``; nothing else is ever fetched."""
    token: str | None = field(default=None, repr=False)
    """Its access token, sent to this address alone."""


@dataclass(frozen=True)
class ServiceSettings:
    """Limits of a service; every one of them bounds what a client can make it hold."""

    host: str = "127.0.0.1"
    """Where it listens; off loopback, keys are required."""
    read_only: bool = False
    """Whether nothing may change the index."""
    hosts: tuple[str, ...] = ()
    """Further names by which it is addressed (the ``Host`` header)."""
    origins: tuple[str, ...] = ()
    """Origins of other pages whose scripts may ask."""
    max_bytes: int = 32 * MIB
    """Of one uploaded file."""
    max_pixels: int = 40_000_000
    """Of one photo, looked up in its header before anything is decoded."""
    cache_bytes: int = 512 * MIB
    """Of described photos that are kept, so that asking again costs the search alone."""
    queue: int = 64
    """Requests that may wait; one more is answered 429."""
    writes: int = 8
    """Changes of the memory that may wait."""
    max_age: float = 60.0
    """Seconds after which a request that still waits is answered 504."""
    window: float = 0.004
    """Seconds that a photo waits for others, to be described in one batch."""
    jobs: int = 16
    """Jobs that are kept, running or done."""
    job_images: int = 64
    """Photos of one job."""
    job_bytes: int = 256 * MIB
    """Of all uploads of one job."""
    label_studio: LabelStudioSettings | None = None
