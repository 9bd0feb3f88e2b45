"""Settings and filters in the words of Qdrant Edge; ``edge`` is its module, imported by the caller."""

from __future__ import annotations

from typing import Any

from retrieval.engines.qdrant.payload import CLASS, IMAGE
from retrieval.engines.qdrant.settings import QdrantSettings
from retrieval.neighbors import Filter


def shard_config(edge: Any, chosen: QdrantSettings, width: int) -> Any:
    """The configuration of a new shard for vectors of ``width`` numbers."""
    memory = edge.Memory.Cold if chosen.on_disk else edge.Memory.Cached
    types = {"float32": edge.VectorStorageDatatype.Float32, "float16": edge.VectorStorageDatatype.Float16}
    vectors = edge.EdgeVectorParams(
        size=width,
        distance=edge.Distance.Dot,  # of unit vectors: the cosine
        datatype=types[chosen.datatype],
        memory=memory,
        quantization_config=_quantization(edge, chosen),
    )
    hnsw = edge.HnswIndexConfig(
        chosen.m,
        chosen.ef_construct,
        chosen.full_scan_threshold,
        max_indexing_threads=chosen.threads,
        memory=edge.Memory.Cold if chosen.graph_on_disk else edge.Memory.Cached,
    )
    return edge.EdgeConfig(
        vectors=vectors,
        hnsw_config=hnsw,
        optimizers=edge.EdgeOptimizersConfig(
            default_segment_number=1, indexing_threshold=chosen.full_scan_threshold
        ),
        max_search_threads=chosen.threads or None,
        wal_enabled=False,  # a flush is what makes an index durable here, and it writes everything
    )


def filter_condition(edge: Any, filter: Filter, hidden: set[int]) -> Any:
    """The condition that lets through what ``filter`` does, less the ``hidden`` ids; None for everything."""
    must, must_not = [], []
    if filter.images is not None:
        must.append(edge.FieldCondition(IMAGE, match=edge.MatchAny([int(i) for i in filter.images])))
    if filter.not_images:
        must_not.append(edge.FieldCondition(IMAGE, match=edge.MatchAny([int(i) for i in filter.not_images])))
    if filter.not_classes:
        must_not.append(edge.FieldCondition(CLASS, match=edge.MatchAny([int(c) for c in filter.not_classes])))
    if hidden:
        must_not.append(edge.HasIdCondition(hidden))
    return edge.Filter(must=must, must_not=must_not) if must or must_not else None


def _quantization(edge: Any, chosen: QdrantSettings) -> Any:
    memory = edge.Memory.Pinned if chosen.on_disk else edge.Memory.Cached
    if chosen.quantization == "scalar":
        return edge.ScalarQuantizationConfig(edge.ScalarType.Int8, 0.99, memory=memory)
    if chosen.quantization == "binary":
        return edge.BinaryQuantizationConfig(memory=memory)
    if chosen.quantization == "product":
        return edge.ProductQuantizationConfig(edge.CompressionRatio.X16, memory=memory)
    if chosen.quantization == "turbo":
        return edge.TurboQuantQuantizationConfig(bits=edge.TurboQuantBitSize.Bits4, memory=memory)
    return None
