"""Two folders, one of images and one of masks, whatever they are called: img/ and ann/, rgb/ and gt/.

Taken where one pair can be meant: the names of the folders say which is which, and the names of the files
in them fit together. Splits, if any, are folders around the pairs (``train/img``), words in the names of the
folders (``train_images``), or what :mod:`indexer.datasets.folder` knows. MVTec's layout of defects counts as
well: test/KIND/ with masks in ground_truth/KIND/, and train/good/.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from indexer.datasets.base import Dataset, Layout
from indexer.datasets.folder import classes_of, load_pairs, splits_of
from indexer.datasets.pairs import FolderPair, Found
from indexer.images import list_images
from indexer.images.listing import holds_images, subfolders
from retrieval.errors import DatasetError
from retrieval.store.paths import real_path

_IMAGES = re.compile(
    "images?|imgs?|jpegimages|jpe?gs?|photos?|pictures?|rgb|inputs?|leftimg8bit|frames?|originals?|src|source"
    "|camerargb"
)
_MASKS = re.compile(
    "masks?|labels?|lbls?|annotations?|annots?|anns?|gts?|groundtruth|truth|gtfine|segmentations?|segs?"
    "|segmasks?|segmentationclass(?:png|raw|aug)?|semantic|targets?|labelids|cameraseg"
)
#: Folders of copies to look at, of other tasks, and of what is no picture.
_OTHERS = re.compile(
    "vis|viz|visuali[sz]ations?|segmentationclass(?:visuali[sz]ation|npy)|segmentationobject.*|overlays?"
    "|previews?|colou?red|instances?|panoptic|depth|poly|polygons|results|predictions"
)
_SPLITS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
#: Folders around pairs that are splits of one data set; others are data sets of their own.
_SPLIT_FOLDER = re.compile("train|val|test|fold|split|part", re.IGNORECASE)


@dataclass(frozen=True)
class _Candidate:
    """A folder directly below the data set's, and what its name says."""

    path: Path
    split: str
    kind: str  #: images, masks, others, or empty where the name says nothing


def find(path: Path) -> Path | None:
    """The folder around the one pair of folders, ``path`` or its only subfolder that has one, or None."""
    located = _locate(path)
    return None if located is None else located[0]


def load(root: Path, split: str | None) -> Dataset:
    """The samples of a split, or all where there are no splits; as a plain folder's otherwise."""
    return _load(root, split, draft=False)


def draft(root: Path, split: str | None) -> Dataset:
    """As :func:`load`, but without classes, and images may be unlabelled altogether."""
    return _load(root, split, draft=True)


def splits(root: Path) -> list[str]:
    """The names of the splits, sorted."""
    return splits_of(*_located(root))


def _located(root: Path) -> tuple[Path, list[FolderPair]]:
    located = _locate(root)
    if located is None:
        raise DatasetError(f"{root} holds no two folders of images and masks that belong together")
    return located


def _load(root: Path, split: str | None, *, draft: bool) -> Dataset:
    root, pairs = _located(root)
    dataset = load_pairs(root, split, pairs, draft=draft)
    named = ", ".join(f"{_name(pair.images, root)}/ with {_name(pair.masks, root)}/" for pair in pairs)
    note = f"images and masks, by the names of the folders: {named}"
    return replace(dataset, notes=(note, *dataset.notes))


def given_layout(root: Path, *, images: str | Path | None, masks: str | Path | None) -> Layout:
    """The layout of two folders that the user names, below ``root`` or from where the command runs.

    One of the two may be left out where the other's name settles it.
    Raises DatasetError for a folder that is not there, or that cannot be told.
    """
    pair = FolderPair("", _given(root, images, "images", masks), _given(root, masks, "masks", images))
    if real_path(pair.images) == real_path(pair.masks):
        raise DatasetError(
            f"{pair.images} cannot hold both the images and the masks; give the masks a folder of their own"
        )
    return Layout(
        "folder",
        "the two folders named by --images and --masks",
        find=lambda path: path,
        load=lambda path, split: load_pairs(path, split, [pair]),
        splits=lambda path: splits_of(path, [pair]),
        draft=lambda path, split: load_pairs(path, split, [pair], draft=True),
        classes=classes_of,
    )


def describe(path: Path) -> str:
    """What stands in the way of taking two folders below ``path``, and the options that settle it."""
    lost = sorted(entry for entry in path.iterdir() if entry.is_symlink() and not entry.exists())
    if lost:
        return f"the link {lost[0]} leads to {lost[0].readlink()}, where nothing is; mend it"
    sets = [folder.name for folder in subfolders(path) if _settled(folder, "") is not None]
    if len(sets) > 1:
        return f"it holds several data sets ({', '.join(sets[:8])}); name one of them"
    pairs = [pair for _, group in _groups(path) for pair in _pairs(group)]
    if len(pairs) > 1:
        found = ", ".join(f"{_name(pair.images, path)} with {_name(pair.masks, path)}" for pair in pairs[:4])
        chosen = pairs[0]
    else:
        filled = [folder for folder in subfolders(path) if holds_images(folder)]
        if len(filled) < 2:
            return ""
        found = ", ".join(f"{folder.name}/" for folder in filled[:8])
        masks = [folder for folder in filled if _read_name(folder).kind == "masks"]
        rest = [folder for folder in filled if folder not in masks[:1]]
        chosen = FolderPair("", rest[0], masks[0] if masks else rest[1])
    return (
        f"it has these folders with images: {found}; say which are meant, for example with "
        f"--images {_name(chosen.images, path)} --masks {_name(chosen.masks, path)}"
    )


def _name(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def _given(root: Path, wanted: str | Path | None, kind: str, other: str | Path | None) -> Path:
    if wanted is not None:
        places = (root / wanted, Path(wanted))
        found = next((place for place in places if place.is_dir()), None)
        if found is None:
            there = ", ".join(path.name for path in subfolders(root)) or "no folder"
            raise DatasetError(
                f"--{kind} names the folder {places[0]}, which does not exist; {root} holds {there}"
            )
        return found
    taken = () if other is None else (real_path(root / other), real_path(Path(other)))
    candidates = [folder for folder in subfolders(root) if real_path(folder) not in taken]
    known = [path for path in candidates if _read_name(path).kind == kind and list_images(path)]
    if len(known) != 1:
        raise DatasetError(
            f"{root} has {len(known)} folders that may hold the {kind}; name the one meant with --{kind}"
        )
    return known[0]


def _locate(path: Path) -> tuple[Path, list[FolderPair]] | None:
    """Where the pairs of folders are and which, or None where there is none or more than one for a split."""
    direct = _settled(path, "")
    if direct is not None:
        return path, direct
    around = {folder: _settled(folder, folder.name) for folder in subfolders(path)}
    found = {folder: pairs for folder, pairs in around.items() if pairs is not None}
    splits = all(_SPLIT_FOLDER.match(folder.name) for folder in found)
    if len(found) == 1 and not splits:
        root = next(iter(found))
        return root, _settled(root, "") or []
    pairs = [pair for group in found.values() for pair in group]
    return (path, pairs) if pairs and splits else None


def _settled(path: Path, split: str) -> list[FolderPair] | None:
    """The pairs directly in a folder, one for each split that its names tell; None where that is unclear."""
    defects = _defects(path)
    if defects:
        return defects
    groups = list(_groups(path))
    pairs = {name: _pairs(group) for name, group in groups}
    pairs = {name: found for name, found in pairs.items() if found}
    if (
        not pairs
        or any(len(found) > 1 for found in pairs.values())
        or (len(pairs) > 1 and (split or "" in pairs))
    ):
        return None
    return [FolderPair(split or name, found[0].images, found[0].masks) for name, found in pairs.items()]


def _defects(path: Path) -> list[FolderPair]:
    """The pairs of MVTec's layout: test/KIND/, with masks in ground_truth/KIND/, and train/good/."""
    masks = path / "ground_truth"
    splits = [split for split in ("train", "test") if holds_images(path / split)]
    if "test" not in splits or not holds_images(masks):
        return []
    return [FolderPair(split, path / split, masks) for split in splits]


def _groups(path: Path) -> Iterator[tuple[str, list[_Candidate]]]:
    """The folders in a folder, by the split that their names tell (empty for none)."""
    candidates = [_read_name(folder) for folder in subfolders(path)]
    for split in sorted({candidate.split for candidate in candidates}):
        yield split, [candidate for candidate in candidates if candidate.split == split]


def _pairs(group: list[_Candidate]) -> list[FolderPair]:
    """The pairs in a group whose files' names fit together."""
    masks = [candidate for candidate in group if candidate.kind == "masks"]
    images = [candidate for candidate in group if candidate.kind == "images"]
    if not images:
        # A folder of masks and one other: that one has the images, whatever it is called.
        images = [candidate for candidate in group if not candidate.kind]
    return [
        pair
        for image in images
        for mask in masks
        if _fit(pair := FolderPair(image.split, image.path, mask.path))
    ]


def _fit(pair: FolderPair) -> bool:
    if not list_images(pair.images) or not list_images(pair.masks):
        return False
    try:
        return bool(Found.of([pair]).masks)
    except DatasetError:  # raised again when the pair is read: what is wrong there is the thing to say
        return True


def _read_name(path: Path) -> _Candidate:
    """What a folder's name says: words between marks and capitals, the split's taken off."""
    words = re.findall(r"[a-z]+|[0-9]+", re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", path.name).lower())
    split = next((_SPLITS[word] for word in words if word in _SPLITS), "")
    rest = [word for word in words if word not in _SPLITS]
    if not split and words:
        start = re.match(r"(train|val|test)(.+)", words[0])
        if start is not None and (_IMAGES.fullmatch(start[2]) or _MASKS.fullmatch(start[2])):
            split, rest = start[1], [start[2], *words[1:]]
    return _Candidate(path, split, _kind(rest, path.name))


def is_part_name(name: str) -> bool:
    """Whether a folder of just this name is one of images or of masks: images, train_masks, JPEGImages."""
    words = re.findall(r"[a-z]+|[0-9]+", re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", name).lower())
    joined = {"".join(words), "".join(word for word in words if word not in _SPLITS)}
    split = re.match(r"(?:train|val|test)(.+)", words[0]) if len(words) == 1 else None
    joined |= {split[1]} if split is not None else set()
    return any(_IMAGES.fullmatch(word) or _MASKS.fullmatch(word) for word in joined)


def _kind(words: list[str], name: str) -> str:
    """images, masks, others, or empty; masks before images, as in label_images."""
    known = {*words, "".join(words), re.sub(r"[^a-z0-9]", "", name.lower())}
    for kind, names in (("others", _OTHERS), ("masks", _MASKS), ("images", _IMAGES)):
        if any(names.fullmatch(word) for word in known):
            return kind
    return ""


LAYOUT = Layout(
    "folder",
    "two folders of any such names, img/ and ann/, JPEGImages/ and SegmentationClass/, images/ and labels/, "
    "or those that --images and --masks name",
    find,
    load,
    splits,
    draft,
    classes_of,
)
