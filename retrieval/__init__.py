"""Vectors and labels in, neighbours out: an index of labelled patches, on any engine."""

from typing import TYPE_CHECKING

from retrieval.lazy import lazy_exports

if TYPE_CHECKING:
    from retrieval.classes import ClassInfo, ClassMap
    from retrieval.folder import IndexFolder, create_index, open_index
    from retrieval.index import PatchIndex
    from retrieval.neighbors import Filter, Neighbors
    from retrieval.settings import IndexSettings
    from retrieval.similarity import Cosine, GradientProduct, Reranked, Similarity
    from retrieval.store.commit import write_manifest
    from retrieval.store.manifest import Manifest, read_manifest, verify_folder
    from retrieval.store.records import ImageRecord, read_images, write_images

__all__ = [
    "ClassInfo",
    "ClassMap",
    "Cosine",
    "Filter",
    "GradientProduct",
    "ImageRecord",
    "IndexFolder",
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
        "ImageRecord": "retrieval.store.records",
        "IndexFolder": "retrieval.folder",
        "IndexSettings": "retrieval.settings",
        "Manifest": "retrieval.store.manifest",
        "Neighbors": "retrieval.neighbors",
        "PatchIndex": "retrieval.index",
        "Reranked": "retrieval.similarity",
        "Similarity": "retrieval.similarity",
        "create_index": "retrieval.folder",
        "open_index": "retrieval.folder",
        "read_images": "retrieval.store.records",
        "read_manifest": "retrieval.store.manifest",
        "verify_folder": "retrieval.store.manifest",
        "write_images": "retrieval.store.records",
        "write_manifest": "retrieval.store.commit",
    },
)
