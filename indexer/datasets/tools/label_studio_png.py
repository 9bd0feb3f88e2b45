"""Label Studio's brush labels as PNGs, one black and white picture a label, beside ``images/``.

``task-7-annotation-3-by-1-tag-Car-0.png`` is of task 7. Its image is the one that the project's JSON export
in the same folder gives the task, or is called ``task-7`` or ``7``.
Source: HumanSignal/label-studio-converter, label_studio_converter/brush.py.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from indexer.datasets.base import Dataset, Layout, Sample, check_samples
from indexer.datasets.keys import SourceKey
from indexer.datasets.masks import read_mask_file
from indexer.datasets.names import composed
from indexer.datasets.tools import label_studio
from indexer.datasets.tools.files import ImageFinder, is_background, meaning_of
from indexer.datasets.whole import natural_key
from indexer.images.decode import read_shape
from indexer.images.listing import list_images, subfolders
from retrieval.errors import DatasetError, ImageError, MaskError
from retrieval.store.paths import real_path

_NAME = re.compile(r"task-(\d+)-annotation-(\d+)-by-.*?-tag-(.+)-(\d+)\.png", re.IGNORECASE)
#: An export has few folders; classes of whole images may have thousands, which nobody looks through.
_MOST_FOLDERS = 20
#: The grey from which on a pixel has the label.
_WHITE = 128


@dataclass(frozen=True)
class _Picture:
    """One label of a task."""

    path: Path
    task: int
    annotation: int
    label: str
    number: int


@dataclass(frozen=True)
class Pictures:
    """The labels of an image: black and white pictures, later ones over earlier ones."""

    image: Path
    pictures: tuple[tuple[Path, int], ...]  #: with the class column of each
    ground: int

    @property
    def name(self) -> str:
        """The first picture, and how many more there are."""
        more = len(self.pictures) - 1
        return f"{self.pictures[0][0]}" + (f" and {more} more" if more else "")

    def read(self) -> npt.NDArray[np.int32]:
        """The class columns, (H, W) int32, -1 unlabelled.

        Raises MaskError for a picture that is missing, unreadable, in colours, or of another size than the
        image, and where the image cannot be read.
        """
        try:
            size = read_shape(self.image)
        except ImageError as error:
            raise MaskError(str(error)) from error
        labels = np.full(size, self.ground, dtype=np.int32)
        for path, column in self.pictures:
            pixels, _ = read_mask_file(path)
            if pixels.ndim != 2 or pixels.shape != size:
                shape = " x ".join(map(str, pixels.shape))
                raise MaskError(
                    f"mask {path} is {shape}, expected grey pixels, {size[0]} high and {size[1]} wide as "
                    f"its image {self.image}; export it again"
                )
            # A picture of one bit holds 0 and 1.
            labels[pixels >= (_WHITE if pixels.max() > 1 else 1)] = column
        return labels

    def check(self) -> None:
        """Raise MaskError where one of the pictures is not there."""
        lost = next((path for path, _ in self.pictures if not path.is_file()), None)
        if lost is not None:
            raise MaskError(f"mask {lost} does not exist; export the project again")

    def key(self, known: SourceKey | None = None) -> SourceKey:
        """The content of all pictures, and their order."""
        keys = [(path.name, SourceKey.of_file(path).sha256) for path, _ in self.pictures]
        if not all(sha256 for _, sha256 in keys):
            return SourceKey(self.name, "")
        return SourceKey(self.name, hashlib.sha256(repr(keys).encode()).hexdigest())


def find(path: Path) -> Path | None:
    """``path`` where it, or a folder in it, holds PNGs named as Label Studio names them, or None."""
    return path if path.is_dir() and next(_pictures(path), None) else None


def _pictures(root: Path) -> Iterator[_Picture]:
    inner = subfolders(root)
    for folder in (root, *(inner if len(inner) <= _MOST_FOLDERS else ())):
        for path in sorted(folder.glob("task-*-annotation-*.png")):
            parts = _NAME.fullmatch(composed(path.name))
            if parts is not None:
                yield _Picture(path, int(parts[1]), int(parts[2]), parts[3], int(parts[4]))


def load(root: Path, split: str | None) -> Dataset:
    """The images of all tasks that have pictures, by the tasks' numbers; of several annotations the last.

    Raises DatasetError for a split, since there are none, and for a task whose image cannot be told.
    """
    if split is not None:
        raise DatasetError(f"{root} has no splits; leave --split out")
    tasks: dict[int, list[_Picture]] = {}
    for picture in _pictures(root):
        tasks.setdefault(picture.task, []).append(picture)
    found = {picture.label for own in tasks.values() for picture in own}
    ordered = sorted(found, key=lambda label: (not is_background(label), natural_key(label)))
    meaning = meaning_of(root, [(label, label, None) for label in ordered])
    images, columns, samples = _images(root), dict(meaning.columns), []
    for task, own in sorted(tasks.items()):
        if task not in images:
            raise DatasetError(
                f"{own[0].path} is of task {task}, whose image cannot be told; put the project's JSON export "
                f"into {root}, or call the image task-{task}"
            )
        drawn = tuple((picture.path, columns[picture.label]) for picture in _last(own))
        image = images[task]
        samples.append(Sample(composed(image.stem), image, Pictures(image, drawn, meaning.ground)))
    return Dataset(
        real_path(root).name,
        "label-studio-png",
        root,
        None,
        check_samples(samples, where=root),
        meaning.classes,
    )


def _last(pictures: Sequence[_Picture]) -> list[_Picture]:
    """Those of the last annotation, in the order of their numbers."""
    last = max(picture.annotation for picture in pictures)
    own = [picture for picture in pictures if picture.annotation == last]
    return sorted(own, key=lambda picture: (picture.number, picture.path))


def _images(root: Path) -> dict[int, Path]:
    """The image of each task: by its own name, or by the exports in the root."""
    found: dict[int, Path] = {}
    for image in list_images(root / "images") if (root / "images").is_dir() else ():
        own = re.fullmatch(r"(?:task-)?(\d{1,18})", image.stem)
        if own is not None:
            found[int(own[1])] = image
    finder = ImageFinder((root / "images", root))
    for path in label_studio.exports(root).values():
        for task in label_studio.read_tasks(path):
            if isinstance(task.number, int):
                found[task.number] = label_studio.find_image(
                    finder, task, where=f"{path}, task {task.number}"
                )
    return found


LAYOUT = Layout(
    "label-studio-png",
    "Label Studio's brush labels: task-7-annotation-3-by-1-tag-Car-0.png and so on, beside images/ and the "
    "JSON export",
    find,
    load,
)
