"""The values of masks as a ``classes.json`` to fill in: a name for each id or colour that was found."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from indexer.datasets import recognise
from indexer.datasets.class_file import USUAL_IGNORE
from indexer.datasets.labels import MaskFile
from indexer.datasets.outline import Outline
from indexer.datasets.values import MaskValue, MaskValues, find_values
from retrieval.classes import ClassMap
from retrieval.errors import ConfigError, DataError, DatasetError, MaskError
from retrieval.progress import Progress
from retrieval.store.files import atomic_write

CLASS_FILE = "classes.json"
#: A colour of less than this share of all pixels is probably noise: smoothed edges, a JPEG.
NOISE = 0.0005
#: Colours and ids that a template lists at most: more are no classes that anybody drew.
MOST_CLASSES = 256
#: Ids that a template lists at most where a build refuses the masks.
MOST_REFUSED = 16
#: Above this, ids next to 255 are grey values rather than numbers of classes, and so is 255.
_GREY = 64


@dataclass(frozen=True)
class Template:
    """What the masks of a data set hold, and which of it becomes a class."""

    path: Path  #: where the template belongs
    values: MaskValues
    classes: tuple[tuple[str, MaskValue], ...]  #: suggested names and what they stand for
    ignored: tuple[int, ...]  #: ids that are taken for unlabelled
    noise: tuple[MaskValue, ...]  #: colours too rare to be a class, probably
    refusal: str = ""  #: why a build would not take these masks as they are

    def to_json(self) -> dict[str, Any]:
        """The content of ``classes.json``."""
        entries = [
            {"id": number if value.id is None else value.id, "name": name, "color": list(value.color)}
            for number, (name, value) in enumerate(self.classes)
        ]
        return {"classes": entries, "ignore": list(self.ignored)}

    def write(self) -> Path:
        """Write it beside the data; ConfigError where a ``classes.json`` is there or nothing can be named."""
        if self.path.exists():
            raise ConfigError(
                f"{self.path} is there already and is not replaced; edit it, or move it away to get a new one"
            )
        if not self.classes:
            raise ConfigError(f"no class was found for {self.path}: every mask is empty or unlabelled")
        if self.refusal and len(self.values.ids) > MOST_REFUSED:
            raise ConfigError(f"{self.refusal} (no template is written of so many values)")
        if len(self.classes) > MOST_CLASSES:
            raise ConfigError(
                f"the masks hold {len(self.classes):,} different values, which are no classes; save masks "
                "as PNG with one value a class, scaled with nearest-neighbour if at all, then ask again"
            )
        data = self.to_json()
        rows = ",\n    ".join(json.dumps(entry) for entry in data["classes"])
        text = f'{{\n  "classes": [\n    {rows}\n  ],\n  "ignore": {json.dumps(data["ignore"])}\n}}\n'
        with atomic_write(self.path) as file:
            file.write(text.encode())
        return self.path


def make_template(
    path: str | Path,
    *,
    split: str | None = None,
    format: str = "auto",
    images: str | Path | None = None,
    masks: str | Path | None = None,
    progress: Progress | None = None,
) -> Template:
    """Read all masks of the data set at ``path`` (of a split, if one is named) and list what they hold.

    The arguments are those of :func:`indexer.load_dataset`; classes need not be known. Raises DatasetError
    where no layout is recognised or there is no mask, MaskError (the first) where none can be read.
    """
    outline = Outline.of(*recognise(Path(path), format, images=images, masks=masks))
    root = outline.root
    draft = outline.draft(split)
    files = [
        item.labels.path
        for item in draft.samples
        if isinstance(item.labels, MaskFile) and item.labels.path.is_file()
    ]
    if not files:
        reasons = [reason for _, reason in outline.refusals]
        expected = outline.layout.description
        raise DatasetError(reasons[0] if reasons else f"{root} has no mask files; expected {expected}")
    values = find_values(files, progress=progress)
    if not values.masks:
        raise MaskError(values.bad[0][1])
    try:
        dataset = outline.with_classes(draft, files)
    except DataError as error:
        return replace(suggest(values, root / CLASS_FILE), refusal=str(error))
    return suggest(values, root / CLASS_FILE, known=dataset.classes)


def suggest(values: MaskValues, path: Path, *, known: ClassMap | None = None) -> Template:
    """Names for the values of masks: ``class_N`` by id; colours numbered black first, then by share.

    What is a class of ``known``, by its id or its colour, keeps that class's name.
    """
    ids = {value.id for value in values.ids if value.id is not None}
    ignored = (USUAL_IGNORE,) if _is_unlabelled(ids) else ()
    classes = [value for value in values.ids if value.id not in ignored]
    noise = tuple(value for value in values.colors if value.share < NOISE)
    drawn = [value for value in values.colors if value.share >= NOISE]
    if not classes:  # ids and colours together cannot share one template; ids go first
        classes = sorted(drawn, key=lambda value: value.color != (0, 0, 0))
    given = () if known is None else known.classes
    by_id = {info.id: info.name for info in given}
    by_color = {info.color: info.name for info in given}
    names = [
        by_color.get(value.color, f"class_{number}")
        if value.id is None
        else by_id.get(value.id, f"class_{value.id}")
        for number, value in enumerate(classes)
    ]
    return Template(path, values, tuple(zip(names, classes, strict=True)), ignored, noise)


def _is_unlabelled(ids: set[int]) -> bool:
    """Whether 255 beside these ids carries no label: not in black and white masks, nor among grey values."""
    others = ids - {0, USUAL_IGNORE}
    if USUAL_IGNORE not in ids:
        return True  # nobody minds, and masks that come later may have it
    return bool(others) and max(others) < _GREY
