"""A look at a data set before anything is built of it: sizes, classes, and what is odd, as data.

Masks are read from an evenly spaced sample, headers of images from a larger one, so that it takes seconds
on ten thousand images. :func:`survey` looks at a data set that was loaded, :func:`survey_folder` also at
one that ``load_dataset`` refuses.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from indexer.datasets import recognise
from indexer.datasets.base import Dataset, Sample, size_problem
from indexer.datasets.labels import MaskFile
from indexer.datasets.oddities import (
    Oddity,
    Problem,
    duplicates,
    group,
    odd_photos,
    opaque_masks,
    stray_files,
    unread_endings,
)
from indexer.datasets.outline import Outline
from indexer.datasets.subset import take_subset
from indexer.datasets.survey_texts import look_at_texts
from indexer.datasets.values import MaskValues, find_values
from indexer.datasets.whole import whole_columns
from indexer.images.headers import read_header
from indexer.kinds import Kind
from retrieval.classes import ClassMap
from retrieval.errors import DataError, MaskError
from retrieval.progress import Progress, track

Size = tuple[int, int]  #: (height, width), pixels
_Item = TypeVar("_Item")

#: Masks read and image headers read, at most, unless asked otherwise.
MASKS, HEADERS = 200, 5000
#: Pixels of masks read at most, whatever their number: large photos take a smaller sample.
PIXELS = 400_000_000


@dataclass(frozen=True)
class ClassFound:
    """A class, and how much of the masks that were read it has."""

    name: str
    id: int | None  #: None for a colour of RGB masks that no class has yet
    color: tuple[int, int, int]
    share: float  #: of all pixels of these masks, 0..1; of the images where they have no masks
    images: int  #: in how many of them it occurs


@dataclass(frozen=True)
class Shapes:
    """The sizes of the images, upright, (height, width) in pixels."""

    read: int  #: images whose header was read
    common: tuple[tuple[Size, int], ...]  #: the most common sizes and how many images have each
    different: int
    smallest: Size | None  #: by pixels; None where no image could be read
    largest: Size | None
    median: Size | None  #: the size whose width / height is the median
    aspects: tuple[float, float, float]  #: width / height: smallest, median, largest; 0 without images


@dataclass(frozen=True)
class Survey:
    """What a data set holds."""

    name: str
    root: str
    format: str
    why: str  #: by what the layout was recognised
    split: str | None
    splits: tuple[tuple[str, int], ...]  #: all splits and the number of images of each
    images: int
    masked: int  #: images that have a mask
    masks_read: int  #: the classes' shares are from so many masks
    shapes: Shapes
    named: bool  #: whether the classes are known: named, or found in the masks
    classes: tuple[ClassFound, ...]
    unlabelled: float  #: share of the pixels without a label, 0..1
    palettes: int | None  #: different palettes of the masks read; None where nobody looked
    notes: tuple[str, ...]  #: choices that were made in reading the folder
    left_out: tuple[tuple[str, int], ...]  #: endings of files that are no images here, and their number
    oddities: tuple[Oddity, ...]
    whole: bool = False  #: whether images have classes as a whole: shares are then of the images
    kind: Kind = "image"  #: what is counted: images, texts or recordings
    words: tuple[int, int, int] | None = None  #: of texts: in the shortest, the median and the longest

    def to_json(self) -> dict[str, Any]:
        """Plain data: tuples of pairs are objects where the first of a pair is a name."""
        data = asdict(self)
        data["splits"], data["left_out"] = dict(self.splits), dict(self.left_out)
        data["shapes"]["common"] = [{"size": size, "images": count} for size, count in self.shapes.common]
        return data


def survey(dataset: Dataset, *, sample: int = MASKS, progress: Progress | None = None) -> Survey:
    """Sizes, classes and oddities of a loaded data set, from at most ``sample`` masks; never raises for data.

    Photos are not decoded, only their headers read. A mask that a build would refuse is an oddity, whose
    message is the build's.
    """
    if dataset.whole:
        return _survey_whole(dataset)
    masked, problems = _checked(dataset.samples)
    shapes, sizes = _shapes(dataset.samples)
    chosen = choose_evenly(masked, _affordable(sample, shapes))
    counts = np.zeros(len(dataset.classes) + 1, dtype=np.int64)  # unlabelled, then the columns
    images = np.zeros_like(counts)
    read = 0
    with track(progress, "reading masks", len(chosen)) as task:
        for item in chosen:
            try:
                columns = item.labels.read()
                size = sizes.get(item.image) or _header_size(item.image)
                if size is not None and columns.shape != size:
                    problems.append(("size", str(item.image), size_problem(item, size, columns.shape)))
            except MaskError as error:
                problems.append(("mask", item.labels.name, str(error)))
            else:
                here = np.bincount(columns.ravel() + 1, minlength=len(counts))
                counts += here
                images += here > 0
                read += 1
            task.advance()
    shares = counts / max(int(counts.sum()), 1)
    return replace(
        _outset(dataset, shapes, problems),
        masked=len(masked),
        masks_read=read,
        named=len(dataset.classes) > 0,
        classes=_found(dataset.classes, shares[1:], images[1:]),
        unlabelled=float(shares[0]),
    )


def _survey_whole(dataset: Dataset) -> Survey:
    """As :func:`survey`, of images that have classes as a whole: no mask is read, and all labels count."""
    counts = np.zeros(len(dataset.classes), dtype=np.int64)
    problems: list[Problem] = []
    for item in dataset.samples:
        if not item.image.is_file():
            problems.append((dataset.kind, str(item.image), f"{dataset.kind} {item.image} does not exist"))
        counts[list(whole_columns(item.labels))] += 1
    classes = _found(dataset.classes, counts / max(len(dataset), 1), counts)
    shapes, words = _shapes(dataset.samples if dataset.kind == "image" else ())[0], None
    if dataset.kind == "text":
        words, odd = look_at_texts(dataset.samples)
        problems += odd
    found = _outset(dataset, shapes, problems)
    return replace(found, classes=classes, whole=True, kind=dataset.kind, words=words)


def _outset(dataset: Dataset, shapes: Shapes, problems: list[tuple[str, str, str]]) -> Survey:
    """A survey of a loaded data set of which no mask was read and no class counted."""
    return Survey(
        name=dataset.name,
        root=str(dataset.root),
        format=dataset.format,
        why="",
        split=dataset.split,
        splits=(),
        images=len(dataset),
        masked=0,
        masks_read=0,
        shapes=shapes,
        named=True,
        classes=(),
        unlabelled=0.0,
        palettes=None,
        notes=dataset.notes,
        left_out=(),
        oddities=group(problems),
    )


def survey_folder(
    path: str | Path,
    *,
    split: str | None = None,
    format: str = "auto",
    subset: str | Path | None = None,
    images: str | Path | None = None,
    masks: str | Path | None = None,
    sample: int = MASKS,
    progress: Progress | None = None,
) -> tuple[Survey, Dataset]:
    """What lies at ``path``, all splits together unless one is named, and its samples as a data set.

    The arguments are those of :func:`indexer.load_dataset`.
    Where a build would stop (classes unknown, a bad list, a broken mask), the build's message is one of
    the oddities and the look goes on; the classes are then the ids or colours found. Beside what
    :func:`survey` tells: splits, palettes, files left out, and oddities of the photos (of as many as
    masks are read). Raises DatasetError where no layout is recognised, the split is unknown or the
    subset names an image that is not there; ConfigError for an unknown format.
    """
    outline = Outline.of(*recognise(Path(path), format, images=images, masks=masks))
    draft = outline.draft(split)
    if subset is not None:
        draft = take_subset(draft, subset)
    problems = [
        ("split" if name else "data set", name, reason)
        for name, reason in outline.refusals
        if split in (None, name)
    ]
    files = [item.labels.path for item in draft.samples if isinstance(item.labels, MaskFile)]
    present = [file for file in files if file.is_file()]
    count = _affordable(sample, _shapes(draft.samples[:1])[0])
    chosen = choose_evenly(present, count)
    dataset, refusal = _with_classes(outline, draft, chosen)
    refused = bool(refusal)
    problems += [("classes", "", text) for text in refusal]
    values = find_values(chosen)
    if refused:  # then no mask can be read as classes: the survey of no mask, and what is in them
        found = replace(survey(dataset, sample=0), masks_read=values.masks, **_of_values(values))
        problems += [("mask", str(path), reason) for path, reason in values.bad]
        problems += _odd_sizes(dataset.samples, set(chosen))
    else:
        found = survey(dataset, sample=sample, progress=progress)
        if not found.masks_read and values.masks:  # all are refused: what is in them helps more than zeros
            found = replace(found, masks_read=values.masks, **_of_values(values))
    problems += [("palettes", "", f"palettes differ: {text}") for text in values.disagreeing]
    problems += opaque_masks(chosen)
    if dataset.kind == "image":
        photos = [item.image for item in dataset.samples if not dataset.whole or item.image.is_file()]
        problems += odd_photos(choose_evenly(photos, count))
        problems += stray_files(outline)
    files_of = {
        name: [item.image for item in part.samples if item.text is None] for name, part in outline.splits
    }
    problems += duplicates(files_of)
    return replace(
        found,
        why=outline.layout.description,
        splits=tuple((name, len(part)) for name, part in outline.splits if name),
        palettes=None if dataset.whole else values.palettes,
        left_out=unread_endings((*outline.image_folders(), *outline.mask_folders()), outline.label_files())
        if dataset.kind == "image"
        else (),
        oddities=group(problems) + found.oddities,
    ), dataset


def choose_evenly(items: Sequence[_Item], count: int) -> list[_Item]:
    """At most ``count`` of the items, evenly spaced, in their order."""
    if len(items) <= count:
        return list(items)
    return [items[(2 * i + 1) * len(items) // (2 * count)] for i in range(count)]


def _with_classes(outline: Outline, draft: Dataset, masks: Sequence[Path]) -> tuple[Dataset, list[str]]:
    """The data set with its classes, named or found in ``masks``, or as it is and why they are refused."""
    if not draft.samples:
        return draft, []
    if not any(isinstance(item.labels, MaskFile) for item in draft.samples) and outline.layout.draft:
        try:  # loading says what masks it looked for
            outline.layout.load(outline.root, draft.split or next(iter(outline.names), None))
        except DataError as error:
            return draft, [str(error)]
    try:
        return outline.with_classes(draft, masks), []
    except (DataError, ValueError) as error:
        return draft, [str(error)] if masks else ["no class is named, and there is no mask to find any in"]


def _odd_sizes(samples: Iterable[Sample], masks: set[Path]) -> list[tuple[str, str, str]]:
    """The samples whose mask, one of ``masks``, has by its header another size than its image."""
    problems = []
    for item in samples:
        if isinstance(item.labels, MaskFile) and item.labels.path in masks:
            image, mask = _header_size(item.image), _header_size(item.labels.path)
            if image and mask and image != mask:
                problems.append(("size", str(item.image), size_problem(item, image, mask)))
    return problems


def _of_values(values: MaskValues) -> dict[str, Any]:
    """Ids and colours in the place of classes, largest share first."""
    classes = [
        ClassFound(value.name, value.id, value.color, value.share, value.images)
        for value in sorted(values.all, key=lambda value: -value.share)
    ]
    return {"classes": tuple(classes), "unlabelled": 0.0, "named": False}


def _found(
    classes: ClassMap, shares: npt.NDArray[np.float64], images: npt.NDArray[np.int64]
) -> tuple[ClassFound, ...]:
    return tuple(
        ClassFound(info.name, info.id, info.color, float(share), int(count))
        for info, share, count in zip(classes.classes, shares, images, strict=True)
    )


def _checked(samples: Iterable[Sample]) -> tuple[list[Sample], list[tuple[str, str, str]]]:
    """The samples whose labels are there, and the problem of each other one."""
    there: list[Sample] = []
    problems: list[tuple[str, str, str]] = []
    for item in samples:
        try:
            item.labels.check()
            there.append(item)
        except MaskError as error:
            problems.append(("no mask", str(item.image), str(error)))
    return there, problems


def _shapes(samples: Sequence[Sample]) -> tuple[Shapes, dict[Path, Size]]:
    """The sizes of at most :data:`HEADERS` images, together and by file."""
    chosen = choose_evenly(samples, HEADERS)
    sizes = {item.image: size for item in chosen if (size := _header_size(item.image)) is not None}
    counted = Counter(sizes.values())
    by_area = sorted(counted, key=lambda size: size[0] * size[1])
    by_aspect = sorted(sizes.values(), key=lambda size: (size[1] / size[0], size))
    aspects = [width / height for height, width in by_aspect]
    shapes = Shapes(
        read=len(sizes),
        common=tuple(counted.most_common(3)),
        different=len(counted),
        smallest=by_area[0] if by_area else None,
        largest=by_area[-1] if by_area else None,
        median=by_aspect[len(by_aspect) // 2] if by_aspect else None,
        aspects=(aspects[0], aspects[len(aspects) // 2], aspects[-1]) if aspects else (0.0, 0.0, 0.0),
    )
    return shapes, sizes


def _header_size(path: Path) -> Size | None:
    header = read_header(path)
    return None if header is None or min(header.size) < 1 else header.size


def _affordable(sample: int, shapes: Shapes) -> int:
    """How many masks of such images are read: ``sample``, fewer where they are large, at least one."""
    if sample < 1 or not shapes.common:
        return max(sample, 0)
    (height, width), _ = shapes.common[0]
    return max(1, min(sample, PIXELS // (height * width)))
