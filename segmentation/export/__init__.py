"""Masks in the formats of labelling tools: one file a format, and a writer for a run."""

from segmentation.export.base import ExportSettings, Format, LabelledPhoto, PhotoFile, RunFile
from segmentation.export.choice import ALL, EXPORT_GROUP, FORMATS, choose_classes, choose_formats
from segmentation.export.exporter import Exporter, photo_files, run_files

__all__ = [
    "ALL",
    "EXPORT_GROUP",
    "FORMATS",
    "ExportSettings",
    "Exporter",
    "Format",
    "LabelledPhoto",
    "PhotoFile",
    "RunFile",
    "choose_classes",
    "choose_formats",
    "photo_files",
    "run_files",
]
