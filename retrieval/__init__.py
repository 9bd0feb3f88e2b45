"""Vectors and labels in, neighbours out: an index of labelled patches, on any engine."""

from retrieval.classes import ClassInfo, ClassMap
from retrieval.images import ImageRecord, read_images, write_images
from retrieval.index import PatchIndex, create_index, open_index
from retrieval.manifest import Manifest, read_manifest, verify_folder, write_manifest
from retrieval.neighbors import Filter, Neighbors
from retrieval.settings import IndexSettings
from retrieval.similarity import Cosine, GradientProduct, Similarity

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
    "Similarity",
    "create_index",
    "open_index",
    "read_images",
    "read_manifest",
    "verify_folder",
    "write_images",
    "write_manifest",
]
