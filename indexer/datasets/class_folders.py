"""A folder per class: ``train/cat/1.jpg``, as torchvision's ImageFolder has it, or ``cat/1.jpg``.

Where there are no images, so for recordings (``cat/1.wav``) and texts (``sports/1.txt``).

The classes are those of all splits, so that train and val agree about their ids. Folders of images and masks
look alike, so this layout is tried last, and not where folders are called so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from indexer.audio.formats import AUDIO_SUFFIXES
from indexer.datasets.base import Dataset, Layout, Sample, check_samples, pick_split, split_names
from indexer.datasets.names import bare, composed
from indexer.datasets.two_folders import is_part_name
from indexer.datasets.whole import ClassLabels, classes_of_names, is_split_name, natural_key
from indexer.images import Listing, list_folder
from indexer.images.formats import IMAGE_SUFFIXES
from indexer.images.listing import count_endings, describe_endings, holds_images, subfolders
from indexer.kinds import Kind
from indexer.texts.formats import TEXT_SUFFIXES
from retrieval.errors import DatasetError
from retrieval.store.paths import real_path

#: What may lie in the folders, in the order in which it is looked for: kind, endings, what one is called.
_KINDS: tuple[tuple[Kind, frozenset[str], str], ...] = (
    ("image", IMAGE_SUFFIXES, "image"),
    ("audio", AUDIO_SUFFIXES, "recording"),
    ("text", TEXT_SUFFIXES, "text"),
)
#: Of so many classes one may be called as folders of images or masks are ("mask"), without being one.
_CLASSES_PER_PART = 10


@dataclass(frozen=True)
class _Split:
    """A folder around folders of classes."""

    name: str  #: empty where there are no splits
    path: Path
    folders: tuple[Path, ...]  #: those of the classes

    @property
    def classes(self) -> set[str]:
        return {composed(folder.name) for folder in self.folders}


def find(path: Path) -> Path | None:
    """``path``, or its only subfolder, where folders of classes are, none called as masks are; or None."""
    root = find_named(path)
    return None if root is None or _looks_like_parts(root) else root


def find_named(path: Path) -> Path | None:
    """As :func:`find`, whatever the folders are called: for who says the format."""
    inner = subfolders(path)
    candidates = [path, *(inner if len(inner) == 1 and not is_split_name(inner[0].name) else [])]
    return next((root for _, endings, _ in _KINDS for root in candidates if _read_root(root, endings)), None)


def load(root: Path, split: str | None) -> Dataset:
    """The samples of a split, or all without splits, by class and path; classes are those of all splits.

    Raises DatasetError for a split that is unknown or must be chosen, and for a class folder without images.
    """
    kind, endings, noun = next(known for known in _KINDS if _read_root(root, known[1]))
    parts = {part.name: part for part in _read_root(root, endings)}
    chosen, part = pick_split(parts, split, where=root)
    names = {name for other in parts.values() for name in other.classes}
    classes = classes_of_names(names, where=str(root))
    columns = {name: column for column, name in enumerate(classes.names)}
    listings = [(folder, list_folder(folder, endings)) for folder in part.folders]
    for folder, listing in listings:
        if not listing.images:
            raise _empty(folder, listing, noun)
    samples = [
        Sample(id, image, ClassLabels((columns[name],), str(folder), (name,)))
        for folder, listing in listings
        for name in [composed(folder.name)]
        for id, image in _ids(folder, listing)
    ]
    left_out = count_endings(path for _, listing in listings for path in listing.left_out)
    broken = [note for _, listing in listings for note in replace(listing, left_out=()).notes()]
    ending_note = describe_endings(left_out, part.path)
    return Dataset(
        name=real_path(root).name,
        format="classes",
        root=root,
        split=chosen,
        samples=check_samples(samples, where=part.path),
        classes=classes,
        notes=(
            *_lacking(parts.values(), names),
            *_aside(root, parts, endings, noun),
            *((ending_note,) if ending_note else ()),
            *broken,
        ),
        left_out=left_out,
        whole=True,
        kind=kind,
    )


def splits(root: Path) -> list[str]:
    """The names of the splits, sorted; empty where there are none."""
    return split_names(part.name for _, endings, _ in _KINDS for part in _read_root(root, endings))


def _read_root(root: Path, endings: frozenset[str] = IMAGE_SUFFIXES) -> list[_Split]:
    """The splits of a root that hold folders of classes, or one without a name; empty where none fits."""
    folders = subfolders(root)
    named = [folder for folder in folders if is_split_name(folder.name)]
    parts = [_Split(folder.name, folder, tuple(_classes_in(folder))) for folder in named]
    parts = [part for part in parts if any(holds_images(inner, endings) for inner in part.folders)]
    if parts:
        return parts
    classes = _classes_in(root)
    if named or len(classes) < 2 or not any(holds_images(inner, endings) for inner in classes):
        return []
    return [_Split("", root, tuple(classes))]


def _classes_in(folder: Path) -> list[Path]:
    return sorted(subfolders(folder), key=lambda path: natural_key(composed(path.name)))


def _looks_like_parts(root: Path) -> bool:
    """Whether folders in the place of classes, or one level below, are called as images and masks are."""
    folders = [folder for part in _read_root(root) for folder in part.folders]
    known = [*folders, *(folder for folder in subfolders(root) if folder not in folders)]
    parts = {folder.name for folder in known if is_part_name(folder.name)}
    names = {folder.name for folder in folders}
    if len(parts) * _CLASSES_PER_PART > len(names) or _could_be_pair(folders):
        return True
    return any(is_part_name(inner.name) for folder in folders for inner in subfolders(folder))


def _could_be_pair(folders: list[Path]) -> bool:
    """Whether there are two folders with equal names of images, none of one a JPEG: it may hold masks."""
    if len(folders) != 2:
        return False
    one, two = (list_folder(folder).images for folder in folders)
    lossless = (all(path.suffix.lower() not in (".jpg", ".jpeg") for path in paths) for paths in (one, two))
    return {path.stem for path in one} == {path.stem for path in two} and any(lossless)


def _ids(folder: Path, listing: Listing) -> list[tuple[str, Path]]:
    """CLASS/STEM for every image of a class; two that differ in the ending alone keep it."""
    names = [composed(path.relative_to(folder.parent).as_posix()) for path in listing.images]
    count = Counter(map(bare, names))
    return [
        (name if count[bare(name)] > 1 else bare(name), path)
        for name, path in zip(names, listing.images, strict=True)
    ]


def _empty(folder: Path, listing: Listing, noun: str) -> DatasetError:
    other = ", ".join(f"{count} {ending}" for ending, count in listing.endings()[:5])
    found = f"found {other}" if other else "found none"
    return DatasetError(
        f"expected {noun}s of the class {folder.name!r} in {folder}, {found}; "
        f"add {noun}s or remove the folder"
    )


def _lacking(parts: Iterable[_Split], names: set[str]) -> list[str]:
    """A sentence for every split that lacks classes of the others."""
    notes = []
    for part in parts:
        lost = sorted(names - part.classes, key=natural_key)
        if lost:
            more = f" and {len(lost) - 10} more" if len(lost) > 10 else ""
            notes.append(f"split {part.name} has no folder of the class {', '.join(lost[:10])}{more}")
    return notes


def _aside(root: Path, parts: dict[str, _Split], endings: frozenset[str], noun: str) -> list[str]:
    """A sentence for inputs that lie in no class's folder."""
    places = {part.path for part in parts.values()}
    loose = {folder: _directly_in(folder, endings) for folder in sorted({root, *places})}
    notes = [
        f"{count} {noun}s directly in {folder} have no class" for folder, count in loose.items() if count
    ]
    others = [f for f in subfolders(root) if f not in places and holds_images(f, endings)]
    others = [] if root in places else others
    if others:
        listed = ", ".join(f"{folder.name}/" for folder in others[:8])
        notes.append(f"left aside, as no split with folders of classes: {listed}")
    return notes


def _directly_in(folder: Path, endings: frozenset[str]) -> int:
    return sum(
        path.suffix.lower() in endings and path.is_file() and not path.name.startswith(".")
        for path in folder.iterdir()
    )


LAYOUT = Layout(
    "classes",
    "a folder per class, for images (texts, recordings) that have a class as a whole: train/cat/, "
    "train/dog/, val/cat/ and so on, or cat/ and dog/ without splits",
    find,
    load,
    splits,
)
#: As :data:`LAYOUT`, where the format is said: classes may be called images or masks.
NAMED = replace(LAYOUT, find=find_named)
