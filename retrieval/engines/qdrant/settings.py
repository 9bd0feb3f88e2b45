"""The ``index.qdrant`` section of a recipe: Qdrant in this process, on a server or on a cluster.

There is no place for a password here: recipes and manifests are read by many. The key of a server
comes from the environment variable ``QDRANT_API_KEY`` alone.
"""

from __future__ import annotations

import ipaddress
from typing import Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator

#: What manifests call the two engines.
KIND_EDGE, KIND_SERVER = "qdrant_edge", "qdrant_server"

#: Address of a store in this process's memory (qdrant-client's own, for tests): nothing is kept.
MEMORY = ":memory:"

#: Where Qdrant answers REST unless told otherwise.
REST_PORT = 6333


class QdrantSettings(BaseModel):
    """How Qdrant stores and searches vectors; what only a server understands says so."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str | None = Field(
        None,
        description="http(s)://HOST:PORT of a server, or of several nodes of a cluster (a list, or commas "
        "between), of which the next is asked when one does not answer; in this process when empty",
    )
    collection: str | None = Field(None, description="server: name of the collection")

    datatype: Literal["float32", "float16"] = Field("float16", description="how vectors are stored")
    quantization: Literal["none", "scalar", "binary", "product", "turbo"] = Field(
        "none", description="a smaller copy that is searched first: 1, 1/8, 1/4 or 1/2 byte a number"
    )
    rescore: bool = Field(True, description="score the candidates of a quantised search by the full vectors")
    oversampling: float = Field(2.0, ge=1, le=1000, description="candidates of a quantised search, times k")
    on_disk: bool = Field(
        False, description="leave full vectors on disk; with quantization, memory has the small copy"
    )
    graph_on_disk: bool = Field(False, description="leave the HNSW graph on disk too")

    m: int = Field(16, ge=2, le=1024, description="HNSW: links of a node")
    ef_construct: int = Field(128, ge=4, le=100_000, description="HNSW: candidates while building")
    ef: int = Field(128, ge=1, le=10**6, description="HNSW: candidates while searching; at least k are taken")
    full_scan_threshold: int = Field(
        10_000, ge=10, le=10**9, description="KB of vectors below which a plain scan is used"
    )
    threads: int = Field(
        0, ge=0, le=4096, description="embedded: threads that build and search; 0: as many as cores"
    )
    memory_limit: int | None = Field(
        None, ge=1, le=10**9, description="embedded: MB of memory the vectors may need (estimated)"
    )
    disk_limit: int | None = Field(
        None, ge=1, le=10**12, description="embedded: MB of disk the vectors may need (estimated)"
    )

    shard_number: int | None = Field(
        None, ge=1, le=10_000, description="server: shards; one a node when empty"
    )
    replication_factor: int = Field(1, ge=1, le=1000, description="server: copies of each shard")
    write_consistency_factor: int = Field(
        1, ge=1, le=1000, description="server: copies that must confirm a write"
    )
    grpc: bool = Field(True, description="server: talk gRPC, which is several times faster than REST")
    grpc_port: int | None = Field(
        None, ge=1, le=65535, description="server: port for gRPC; the one after that of url when empty"
    )
    timeout: int = Field(
        60, ge=1, le=86_400, description="server: seconds for one request, its repetitions included"
    )
    attempts: int = Field(5, ge=1, le=5, description="server: how often a request is sent before giving up")
    batch_points: int = Field(1024, ge=1, le=10**6, description="server: points of one upload request")
    batch_bytes: int = Field(
        4_000_000, ge=1024, lt=5_000_000, description="server: bytes of one upload request"
    )
    label_table: int = Field(
        512,
        ge=0,
        le=10**6,
        description="server: MB for labels of rows that were found, which are then not sent again; "
        "a larger bank sends them with each hit, as does 0",
    )
    query_batch: int = Field(64, ge=1, le=100_000, description="queries of one search request")

    @field_validator("url", mode="before")
    @classmethod
    def _is_one_text(cls, url: object) -> object:
        if isinstance(url, list | tuple) and url and all(isinstance(one, str) for one in url):
            return ",".join(url)
        return url

    @field_validator("url")
    @classmethod
    def _holds_no_secret(cls, url: str | None) -> str | None:
        if url is None or url == MEMORY:
            return url
        return ",".join(dict.fromkeys(_checked(one.strip()) for one in url.split(",")))

    @property
    def urls(self) -> tuple[str, ...]:
        """The addresses of the server, or of a cluster's nodes."""
        return tuple(self.url.split(",")) if self.url else ()

    def grpc_port_of(self, url: str) -> int:
        """The port that gRPC is spoken at: the one that is set, or the one after REST's."""
        if self.grpc_port is not None:
            return self.grpc_port
        return ((urlsplit(url).port if url != MEMORY else None) or REST_PORT) + 1


def is_plain(url: str) -> bool:
    """Whether what is sent to ``url`` leaves this machine, and can be read on its way."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    return parts.scheme == "http" and host != "localhost" and not _is_loopback(host)


def _checked(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(
            "expected http://HOST:PORT or https://HOST:PORT, several of them with commas between"
        )
    if parts.port == 0:  # any other that is none raises a ValueError by itself
        raise ValueError("a port is 1..65535")
    if parts.username or parts.password or parts.query:
        raise ValueError("a URL must hold no key or password; put the key into QDRANT_API_KEY")
    return url.rstrip("/")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name
        return False
