"""Vectors and labels in, neighbours out: an index of labelled patches, on any engine."""

from typing import TYPE_CHECKING

from retrieval.lazy import lazy_exports

if TYPE_CHECKING:
    from retrieval.classes import ClassInfo, ClassMap
    from retrieval.images import ImageRecord, read_images, write_images
    from retrieval.index import PatchIndex, create_index, open_index
    from retrieval.manifest import Manifest, read_manifest, verify_folder, write_manifest
    from retrieval.neighbors import Filter, Neighbors
    from retrieval.settings import IndexSettings
    from retrieval.similarity import Cosine, GradientProduct, Reranked, Similarity

__all__ = [
    "ClassInfo",
    "ClassMap",
    "Cosine",
    "Filter",
    "GradientProduct",
    "ImageRecord",
    "IndexSettings",
    "Manifest",
    "Neighbors",
    "PatchIndex",
    "Reranked",
    "Similarity",
    "create_index",
    "open_index",
    "read_images",
    "read_manifest",
    "verify_folder",
    "write_images",
    "write_manifest",
]

__getattr__ = lazy_exports(
    __name__,
    {
        "ClassInfo": "retrieval.classes",
        "ClassMap": "retrieval.classes",
        "Cosine": "retrieval.similarity",
        "Filter": "retrieval.neighbors",
        "GradientProduct": "retrieval.similarity",
        "ImageRecord": "retrieval.images",
        "IndexSettings": "retrieval.settings",
        "Manifest": "retrieval.manifest",
        "Neighbors": "retrieval.neighbors",
        "PatchIndex": "retrieval.index",
        "Reranked": "retrieval.similarity",
        "Similarity": "retrieval.similarity",
        "create_index": "retrieval.index",
        "open_index": "retrieval.index",
        "read_images": "retrieval.images",
        "read_manifest": "retrieval.manifest",
        "verify_folder": "retrieval.manifest",
        "write_images": "retrieval.images",
        "write_manifest": "retrieval.manifest",
    },
)
