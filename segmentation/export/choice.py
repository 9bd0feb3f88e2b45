"""Which formats and which classes to export, from what a user names."""

from __future__ import annotations

from collections.abc import Sequence

from retrieval.classes import ClassMap
from retrieval.errors import ConfigError, did_you_mean
from retrieval.plugins import load_plugins
from segmentation.drawing.overlays import UNPAINTED
from segmentation.export import coco, cvat, geojson, label_studio, labelme, palette, yolo
from segmentation.export.base import Format

#: The entry point group in which an installed package names its formats, each a :class:`Format`.
EXPORT_GROUP = "mycelia.exports"

#: Those that come with Mycelia.
FORMATS: tuple[Format, ...] = (
    palette.FORMAT,
    *coco.FORMATS,
    labelme.FORMAT,
    cvat.FORMAT,
    *label_studio.FORMATS,
    yolo.FORMAT,
    geojson.FORMAT,
)

#: What stands for every class, those named background included.
ALL = "all"


def choose_formats(names: Sequence[str]) -> tuple[Format, ...]:
    """The formats of these names, each of which may be several with commas between; none twice.

    Raises ConfigError, with the known ones, for an unknown name, and MissingExtraError where a format
    needs a package that is missing.
    """
    asked = [word.strip() for name in names for word in name.split(",") if word.strip()]
    known = {format.name: format for format in FORMATS}
    if any(name not in known for name in asked):
        known = {format.name: format for format in load_plugins(EXPORT_GROUP, Format)} | known
    for name in asked:
        if name not in known:
            raise ConfigError(f"unknown export format {name!r}; choose of {', '.join(known)}")
    chosen = tuple(known[name] for name in dict.fromkeys(asked))
    for format in chosen:
        format.require()
    return chosen


def choose_classes(classes: ClassMap, names: Sequence[str] = ()) -> tuple[int, ...]:
    """The columns of the classes to export, ascending.

    ``names`` are names of classes, each of which may be several with commas between, or :data:`ALL`;
    without any it is all classes but those whose names mean nothing in particular, such as
    "background". Raises ConfigError for an unknown name.
    """
    asked = [word for name in names for word in _words(name, classes)]
    if ALL in asked and ALL not in classes.names:
        return tuple(range(len(classes)))
    for name in asked:
        if name not in classes.names:
            hint = did_you_mean(name, classes.names) or f"; there are {', '.join(classes.names)}"
            raise ConfigError(f"--export-classes names {name!r}, which is no class of this index{hint}")
    if asked:
        return tuple(column for column, name in enumerate(classes.names) if name in asked)
    return tuple(column for column, name in enumerate(classes.names) if name.lower() not in UNPAINTED)


def _words(name: str, classes: ClassMap) -> list[str]:
    if name in classes.names:  # its commas are its own
        return [name]
    return [word.strip() for word in name.split(",") if word.strip()]
