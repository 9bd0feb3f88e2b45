"""How much memory and disk vectors need in Qdrant: the arithmetic behind docs/scaling.md.

The constants below the vectors' own bytes were measured on a file by file look at an embedded
index of 20,000 rows.
"""

from __future__ import annotations

from dataclasses import dataclass

from retrieval.engines.qdrant.settings import QdrantSettings

_DATATYPE_BYTES = {"float32": 4.0, "float16": 2.0}

#: Bytes a number in the small copy: int8, one bit, product quantisation x16 of float32, four bits.
_QUANTIZED_BYTES = {"none": 0.0, "scalar": 1.0, "binary": 1 / 8, "product": 1 / 4, "turbo": 1 / 2}

#: A link of an HNSW node takes four bytes; the ground layer has 2 m of them, those above a fifth more.
_LINK_BYTES, _UPPER_LAYERS = 4.0, 1.2

#: Id, version and the indexed payload fields of a point, in memory and on disk.
_POINT_BYTES = 160.0

#: The payload of a point in the embedded engine, on disk.
_PAYLOAD_BYTES = 145.0


@dataclass(frozen=True)
class Footprint:
    """Bytes that one row needs."""

    memory: float
    disk: float


@dataclass(frozen=True)
class Graph:
    """What a server says of a collection's HNSW graphs: vectors in them, whether they are made at all, and
    the KB of vectors from which a segment gets one (None where the server does not say)."""

    vectors: int
    on: bool
    threshold: int | None


def describe_graph(graph: Graph, rows: int) -> str:
    """How many of the rows a search finds by graph, in words."""
    if not graph.on:
        return "off until everything is uploaded; searches look at every vector"
    if graph.vectors >= rows:
        return f"all {rows:,} vectors"
    size = "small ones" if graph.threshold is None else f"those below {graph.threshold:,} KB of vectors"
    return f"{graph.vectors:,} of {rows:,} vectors; of the server's segments, {size} are searched without one"


def bytes_per_row(settings: QdrantSettings, width: int) -> Footprint:
    """Computed bytes of one row of ``width`` numbers, without labels and before any replication.

    Optimising keeps the old and the new version of what it works on for a while: plan for half as
    much again, as Qdrant's own rule (vectors x 1.5) does.
    """
    full = _DATATYPE_BYTES[settings.datatype] * width
    small = _QUANTIZED_BYTES[settings.quantization] * width
    links = 2 * settings.m * _LINK_BYTES * _UPPER_LAYERS
    resident = small if settings.on_disk and small else (0.0 if settings.on_disk else full + small)
    graph = 0.0 if settings.graph_on_disk else links
    return Footprint(
        memory=resident + graph + _POINT_BYTES, disk=full + small + links + _POINT_BYTES + _PAYLOAD_BYTES
    )
