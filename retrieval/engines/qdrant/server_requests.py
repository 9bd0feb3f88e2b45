"""Settings and filters in the words of a Qdrant server; ``m`` is ``qdrant_client.models``."""

from __future__ import annotations

from typing import Any

from retrieval.engines.qdrant.payload import CLASS, DATASET, IMAGE
from retrieval.engines.qdrant.settings import QdrantSettings
from retrieval.neighbors import Filter


def filter_condition(m: Any, filter: Filter) -> Any:
    """The condition that lets through what ``filter`` does; None for everything."""

    def among(field: str, values: Any) -> Any:
        return m.FieldCondition(key=field, match=m.MatchAny(any=list(values)))

    must, must_not = [], []
    if filter.images is not None:
        must.append(among(IMAGE, map(int, filter.images)))
    if filter.datasets is not None:
        must.append(among(DATASET, filter.datasets))
    if filter.not_images:
        must_not.append(among(IMAGE, map(int, filter.not_images)))
    if filter.not_classes:
        must_not.append(among(CLASS, map(int, filter.not_classes)))
    return m.Filter(must=must or None, must_not=must_not or None) if must or must_not else None


def search_params(m: Any, chosen: QdrantSettings, k: int) -> Any:
    """How a search for ``k`` neighbours uses the graph and the small copy."""
    quantization = None
    if chosen.quantization != "none":
        quantization = m.QuantizationSearchParams(rescore=chosen.rescore, oversampling=chosen.oversampling)
    return m.SearchParams(hnsw_ef=max(chosen.ef, k), quantization=quantization)


def quantization_config(m: Any, chosen: QdrantSettings) -> Any:
    """The smaller copy that is searched first; it stays in memory while the full vectors may not."""
    kept = {"always_ram": True}
    if chosen.quantization == "scalar":
        config = m.ScalarQuantizationConfig(type=m.ScalarType.INT8, quantile=0.99, **kept)
        return m.ScalarQuantization(scalar=config)
    if chosen.quantization == "binary":
        return m.BinaryQuantization(binary=m.BinaryQuantizationConfig(**kept))
    if chosen.quantization == "product":
        config = m.ProductQuantizationConfig(compression=m.CompressionRatio.X16, **kept)
        return m.ProductQuantization(product=config)
    if chosen.quantization == "turbo":
        return m.TurboQuantization(
            turbo=m.TurboQuantQuantizationConfig(bits=m.TurboQuantBitSize.BITS4, **kept)
        )
    return None
