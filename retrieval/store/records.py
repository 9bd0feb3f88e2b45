"""``images.jsonl``: one line for every memory image of an index."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from retrieval.errors import REPAIR, ConfigError, IndexDamagedError, did_you_mean
from retrieval.json_text import parse_json
from retrieval.store.commit import IndexFiles
from retrieval.store.files import atomic_write
from retrieval.store.layout import IMAGES
from retrieval.store.manifest import Manifest, has_manifest, read_manifest


@dataclass(frozen=True)
class ImageRecord:
    """One memory image: its number in ``patches.npy``, its id in the data set, and where it came from.

    ``path`` and ``sha256`` name the source file, ``height`` and ``width`` are its pixels,
    ``patches`` counts the rows it gave, ``removed`` says that they no longer answer. An image
    has one record for each augmentation ``epoch``; ``box`` (top, left, bottom, right) is what the
    epoch saw of it, in source pixels (None: all of it).
    """

    number: int
    id: str
    path: str
    sha256: str
    height: int
    width: int
    patches: int
    removed: bool = False
    epoch: int = 0
    box: tuple[float, float, float, float] | None = None
    excerpt: str | None = None  #: of a text: its beginning, to show it

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> ImageRecord:
        """The inverse of ``dataclasses.asdict``; raises KeyError or TypeError for another shape."""
        return cls(
            number=int(data["number"]),
            id=str(data["id"]),
            path=str(data["path"]),
            sha256=str(data["sha256"]),
            height=int(data["height"]),
            width=int(data["width"]),
            patches=int(data["patches"]),
            removed=bool(data["removed"]),
            epoch=int(data.get("epoch", 0)),
            box=_box(data.get("box")),
            excerpt=None if data.get("excerpt") is None else str(data["excerpt"]),
        )


def _box(edges: Sequence[float] | None) -> tuple[float, float, float, float] | None:
    if edges is None:
        return None
    top, left, bottom, right = (float(edge) for edge in edges)
    return top, left, bottom, right


@dataclass(frozen=True)
class Drift:
    """How a memory differs from the one that was built."""

    added: int
    """Rows, not removed, of images that came later."""
    rows: int
    """All rows that are not removed."""
    removed: int
    """Images of the build that are removed, counted once, whatever their epochs."""


def drift_of(records: Iterable[ImageRecord], built: int, *, gone: int = 0) -> Drift:
    """What changed since a build that gave the first ``built`` records, by their numbers, which only grow.

    An image that was replaced is no removed one, but its rows came later. ``gone`` images are removed whose
    records went with them.
    """
    ordered = sorted(records, key=lambda record: record.number)
    live = [record.patches for record in ordered if not record.removed]
    later = [record for record in ordered[built:] if not record.removed]
    missing = {record.id for record in ordered[:built] if record.removed} - {record.id for record in later}
    return Drift(added=sum(r.patches for r in later), rows=sum(live), removed=len(missing) + gone)


def built_records(
    records: Iterable[ImageRecord], manifest: Manifest
) -> tuple[list[ImageRecord], list[ImageRecord]]:
    """The records of the build, and those that came later, each by rising number.

    All are the build's where the manifest does not count its images.
    """
    ordered = sorted(records, key=lambda record: record.number)
    images = manifest.counts.get("images")
    if images is None:
        return ordered, []
    built = images * int((manifest.recipe.get("bank") or {}).get("epochs", 1))
    return ordered[:built], ordered[built:]


def without_removed(
    records: Iterable[ImageRecord], manifest: Manifest
) -> tuple[list[ImageRecord], dict[str, int]]:
    """The records of images that are there, and the manifest's counts without the others."""
    built, later = built_records(records, manifest)
    counts = dict(manifest.counts)
    kept = [record for record in (*built, *later) if not record.removed]
    if "images" in counts:
        gone = {record.id for record in built if record.removed}
        back = {record.id for record in later if not record.removed}
        counts["images"] -= len(gone)
        if gone - back or counts.get("gone"):
            counts["gone"] = counts.get("gone", 0) + len(gone - back)
    return kept, counts


def write_records(path: Path, records: Iterable[ImageRecord]) -> Path:
    """Write the records, in their order, to a file; returns its path. Raises StorageError."""
    with atomic_write(path) as file:
        for record in records:
            data = asdict(record)
            if record.excerpt is None:  # only texts have one
                del data["excerpt"]
            text = json.dumps(data, ensure_ascii=False)
            file.write(text.encode(errors="backslashreplace") + b"\n")  # a name need not be text
    return path


def read_records(path: Path) -> list[ImageRecord]:
    """All records of a file; raises IndexDamagedError, naming the line, for a bad one."""
    records: list[ImageRecord] = []
    try:
        with path.open("rb") as file:  # binary: text would also be split at U+2028 and its like
            for line in file:
                records.append(ImageRecord.from_json(parse_json(line, own=True)))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise IndexDamagedError(
            f"{path}, line {len(records) + 1}, is no image record ({error}); {REPAIR}"
        ) from error
    return records


def image_numbers(records: Iterable[ImageRecord], ids: Collection[str], *, where: str | Path) -> list[int]:
    """The image numbers (one for each augmentation epoch) of images, by id, that are not removed; rising.

    Raises ConfigError for an id that is not there, naming the nearest; ``where`` names the index.
    """
    numbers: dict[str, list[int]] = {}
    for record in records:
        if not record.removed:
            numbers.setdefault(record.id, []).append(record.number)
    for id in ids:
        if id not in numbers:
            raise ConfigError(f"{where} has no memory image {id!r}{did_you_mean(id, numbers)}")
    return sorted({number for id in ids for number in numbers[id]})


def write_images(folder: Path, records: Iterable[ImageRecord]) -> Path:
    """Write the records of an index that is being made to ``folder/images.jsonl``. Raises StorageError."""
    return write_records(folder / IMAGES, records)


def read_images(folder: Path) -> list[ImageRecord]:
    """All records of the index in ``folder``; raises IndexDamagedError for a bad one."""
    files = IndexFiles(folder, read_manifest(folder)) if has_manifest(folder) else IndexFiles(folder)
    return read_records(files.current(IMAGES))
