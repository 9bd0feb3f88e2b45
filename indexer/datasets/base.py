"""What every data set is made of, and what the readers of the layouts share."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from indexer.datasets.keys import SampleKeys, SourceKey
from indexer.datasets.labels import LabelSource, MaskFile
from indexer.datasets.masks import ColorCode
from indexer.datasets.names import bare, composed
from indexer.images import read_image
from indexer.kinds import Kind
from retrieval.classes import ClassMap
from retrieval.errors import DatasetError, ImageError, MaskError
from retrieval.store.text import decode_text

T = TypeVar("T")


@dataclass(frozen=True)
class Sample:
    """One image of a data set and what labels it."""

    id: str
    image: Path
    labels: LabelSource
    text: str | None = None  #: a text that is no file of its own; ``image`` is then the table it stands in

    @property
    def source(self) -> Path | str:
        """What is read of it: its file, or the text itself."""
        return self.image if self.text is None else self.text

    def keys(self, known: SampleKeys | None = None) -> SampleKeys:
        """What image and labels are made of now; ``known``, an earlier answer, spares reading them."""
        return SampleKeys(
            self.source_key(None if known is None else known.image),
            self.labels.key(None if known is None else known.labels),
        )

    def source_key(self, known: SourceKey | None = None) -> SourceKey:
        """The key of what is read of it; ``known``, an earlier one, spares reading a file."""
        if self.text is None:
            return SourceKey.of_file(self.image, known=known)
        return SourceKey.of_bytes(f"{self.image}:{self.id}", self.text.encode(errors="backslashreplace"))


@dataclass(frozen=True)
class Dataset:
    """Labelled images in a fixed order, and their classes."""

    name: str
    format: str
    root: Path
    split: str | None
    samples: tuple[Sample, ...]
    classes: ClassMap
    notes: tuple[str, ...] = ()  #: what a reader of the data should know: choices made, files left out
    left_out: tuple[tuple[str, int], ...] = ()  #: endings of files that are not read, and how many of each
    found: bool = False  #: whether nobody named the classes: they are the ids that occur in the masks
    whole: bool = False  #: whether labels are of images as a whole, and there are no masks
    kind: Kind = "image"  #: what its samples are; texts and recordings are labelled as a whole

    def __len__(self) -> int:
        return len(self.samples)

    def read_mask(self, sample: Sample) -> npt.NDArray[np.int32]:
        """The class columns of a sample, (H, W) int32, -1 unlabelled.

        Raises MaskError for labels that are missing, unreadable, or hold an unknown id or colour.
        """
        return sample.labels.read()

    def read(self, sample: Sample) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]]:
        """A sample's image (H, W, 3) uint8 RGB and its class columns (H, W) int32, -1 unlabelled.

        Raises ImageError or MaskError for a bad file, MaskError where the two differ in size.
        """
        image = read_image(sample.image)
        columns = self.read_mask(sample)
        if columns.shape != image.shape[:2]:
            raise MaskError(size_problem(sample, image.shape[:2], columns.shape))
        return image, columns

    def check_files(self) -> None:
        """Look, without decoding, whether every image and its labels are there; the first that is not raises.

        Raises ImageError or MaskError.
        """
        for sample in self.samples:
            if not sample.image.is_file():
                raise ImageError(f"image {sample.image} does not exist, but the list of {self.name} names it")
            sample.labels.check()

    def select(self, ids: Iterable[str]) -> Dataset:
        """The samples with the given ids, in the data set's own order; an id may have its file's ending.

        Raises DatasetError for an id that the data set lacks (naming the nearest), or for no id at all.
        """
        known = {sample.id for sample in self.samples}
        wanted: set[str] = set()
        for id in ids:
            name = next((name for name in (id, composed(id), bare(id)) if name in known), None)
            if name is None:
                raise DatasetError(
                    f"the subset names {id!r}, but {self._describe()} has no such image{nearest(id, known)}"
                )
            wanted.add(name)
        if not wanted:
            raise DatasetError("the subset names no image; list one id a line")
        return replace(self, samples=tuple(sample for sample in self.samples if sample.id in wanted))

    def _describe(self) -> str:
        return self.name if self.split is None else f"{self.name} (split {self.split})"


def size_problem(sample: Sample, image: tuple[int, ...], mask: tuple[int, ...]) -> str:
    """What is wrong where a mask has another size (height, width) than its image, and what to do."""
    text = (
        f"mask {sample.labels.name} is {mask[0]} high and {mask[1]} wide, "
        f"but its image {sample.image} is {image[0]} high and {image[1]} wide; "
    )
    if mask == image[::-1]:
        return (
            text + "the sides are swapped: draw the mask on the image as displayed (EXIF orientation applied)"
        )
    return text + "a mask must have the size of its image"


def name_samples(
    samples: Iterable[Sample], classes: ClassMap, colors: ColorCode | None
) -> tuple[Sample, ...]:
    """The samples, with the classes and the meaning of colours given to their mask files."""
    return tuple(
        replace(sample, labels=replace(sample.labels, classes=classes, colors=colors))
        if isinstance(sample.labels, MaskFile)
        else sample
        for sample in samples
    )


@dataclass(frozen=True)
class Layout:
    """A way to lay a data set out on disk: how it is recognised, and how it is read."""

    name: str
    description: str  #: a phrase for messages: which files are expected where
    find: Callable[[Path], Path | None]  #: the root of such a data set at or just below a path
    load: Callable[[Path, str | None], Dataset]  #: root and split -> data set
    #: The names of the splits of a root; without it nobody can look at all splits at once.
    splits: Callable[[Path], Sequence[str]] | None = None
    #: As ``load``, but no mask is opened and no mask file knows its classes; where ``load`` finds classes.
    draft: Callable[[Path, str | None], Dataset] | None = None
    #: With ``draft``: the classes of a root, those that are named or else found in the given masks.
    classes: Callable[[Path, Iterable[Path]], tuple[ClassMap, ColorCode | None]] | None = None


def choose_split(wanted: str | None, available: Sequence[str], *, where: Path) -> str:
    """The split to read: the wanted one, or the only one.

    Raises DatasetError, listing the splits there are, where that does not name exactly one.
    """
    if not available:
        raise DatasetError(f"{where} holds no split; expected a list such as train.txt")
    listed = ", ".join(available)
    if wanted is None:
        if len(available) == 1:
            return available[0]
        raise DatasetError(f"{where} has several splits ({listed}); choose one with --split")
    if wanted not in available:
        raise DatasetError(f"{where} has no split {wanted!r}; its splits are: {listed}")
    return wanted


def pick_split(parts: Mapping[str, T], wanted: str | None, *, where: Path) -> tuple[str | None, T]:
    """(name, what is under it) of the split to read; without splits all is under the empty name.

    Raises DatasetError as :func:`choose_split`.
    """
    whole = "" in parts and wanted is None
    chosen = "" if whole else choose_split(wanted, split_names(parts), where=where)
    return chosen or None, parts[chosen]


def split_names(parts: Iterable[str]) -> list[str]:
    """The names of splits, sorted; empty where all is under the empty name."""
    return sorted(name for name in parts if name)


def check_samples(samples: Sequence[Sample], *, where: Path) -> tuple[Sample, ...]:
    """The samples, if there are any and no two share an id; DatasetError otherwise."""
    if not samples:
        raise DatasetError(f"{where} holds no samples; expected at least one image with its mask")
    seen: dict[str, Sample] = {}
    for sample in samples:
        twin = seen.setdefault(sample.id, sample)
        if twin is not sample:
            raise DatasetError(
                f"{where} has two images with the id {sample.id!r}: {twin.image} and {sample.image}; "
                "rename or drop one"
            )
    return tuple(samples)


def read_text(path: Path) -> str:
    """A text file in UTF-8, or in UTF-16 or UTF-32 where it begins with their mark, as Windows writes them.

    Raises OSError and UnicodeDecodeError.
    """
    return decode_text(path.read_bytes())


def read_lines(path: Path) -> list[tuple[int, str]]:
    """The lines of a list file as (line number from 1, stripped text), without blank and ``#`` lines.

    Raises DatasetError where the file cannot be read as text.
    """
    try:
        text = read_text(path)
    except FileNotFoundError:
        raise DatasetError(f"the list {path} does not exist; check the path") from None
    except (OSError, UnicodeDecodeError) as problem:
        raise DatasetError(
            f"the list {path} cannot be read as text ({problem}); save it as UTF-8"
        ) from problem
    lines = ((number, line.strip()) for number, line in enumerate(text.splitlines(), start=1))
    return [(number, line) for number, line in lines if line and not line.startswith("#")]


def parse_ids(path: Path) -> tuple[str, ...]:
    """The image ids of a subset file: one a line, blank lines and lines that start with # left out.

    Raises DatasetError for a file that is missing or names no id.
    """
    ids = tuple(line for _, line in read_lines(path))
    if not ids:
        raise DatasetError(f"the subset file {path} names no image; list one id a line")
    return ids


def nearest(word: str, known: Iterable[str]) -> str:
    """``; did you mean 'x'?`` for the known word nearest to ``word``, or nothing."""
    matches = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {matches[0]!r}?" if matches else ""
