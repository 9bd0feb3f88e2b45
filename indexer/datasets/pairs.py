"""Which mask belongs to which image, by their names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from indexer.datasets.names import composed, id_of
from indexer.images.formats import HEIF_SUFFIXES
from indexer.images.listing import Listing, count_endings, list_folder, subfolders
from retrieval.errors import DatasetError

#: What may stand beside an image's whole name in a mask's: a word set off, or one that means labels.
_SET_OFF = re.compile(r"[_\-. ].*[A-Za-z].*|.*[A-Za-z].*[_\-. ]")
_LABEL = re.compile(
    r"mask|msk|seg|label|lbl|gt|truth|annot|\bann|matte|target|class|trainids"
    r"|(?:^|[_\-. ])[LPm](?:$|[_\-. ])",
    re.IGNORECASE,
)
#: Copies of masks for looking at, or of another task; they give way to others of the same image.
_COPIES = re.compile(r"colou?r|vis|viz|overlay|blend|instance|polygon|preview", re.IGNORECASE)


@dataclass(frozen=True, order=True)
class Rule:
    """How a mask's name follows from an image's, both without folder and ending."""

    cut: tuple[str, str]  #: what the image's name begins and ends with, taken away
    put: tuple[str, str]  #: what stands in its place in the mask's

    def __str__(self) -> str:
        image, mask = (f"{start}NAME{end}" for start, end in (self.cut, self.put))
        return f"{mask} for {image}"


@dataclass(frozen=True)
class Pairs:
    """The masks of images, by the images' keys, and what is to be said of them."""

    masks: dict[str, Path]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class FolderPair:
    """A folder of images and the folder of their masks; ``split`` is theirs, or empty."""

    split: str
    images: Path
    masks: Path


@dataclass(frozen=True)
class Found:
    """The images of one or several pairs of folders and their masks, by one key each.

    A key is the image's path below its folder, composed, without ending, after its pair's split.
    """

    images: dict[str, Path]
    masks: dict[str, Path]  #: of the images that have one
    folders: tuple[str, ...]  #: splits that are folders
    notes: tuple[str, ...]
    left_out: tuple[tuple[str, int], ...]

    @classmethod
    def of(cls, pairs: Sequence[FolderPair]) -> Found:
        """Look through the folders; raises DatasetError as :func:`by_key` and :func:`match` do."""
        images: dict[str, Path] = {}
        masks: dict[str, Path] = {}
        notes: list[str] = []
        left_out: list[Path] = []
        for pair in pairs:
            prefix = f"{pair.split}/" if pair.split else ""
            for folder, found in ((pair.images, images), (pair.masks, masks)):
                listing = list_folder(folder)
                paths, said = by_key(listing)
                found.update((prefix + key, path) for key, path in paths.items())
                notes += said
                left_out += listing.left_out
        matched = match(images, masks)
        notes += matched.notes
        named = tuple(pair.split for pair in pairs if pair.split)
        folders = named or _split_folders(images, pairs[0].masks)
        return cls(images, matched.masks, folders, tuple(notes), count_endings(left_out))


def _split_folders(images: Mapping[str, Path], masks: Path) -> tuple[str, ...]:
    """Subfolders of the images' folder that the masks' has too, if every image lies in a subfolder."""
    if any("/" not in key for key in images):
        return ()
    names = sorted({key.split("/", 1)[0] for key in images})
    own = {composed(path.name) for path in subfolders(masks)}
    return tuple(name for name in names if name in own)


def by_key(listing: Listing) -> tuple[dict[str, Path], tuple[str, ...]]:
    """The images of a listing by their path without ending (composed), and what is to be said of them.

    Raises DatasetError where two files that are read have one key, or nothing is there.
    """
    folder = listing.folder
    found: dict[str, Path] = {}
    twins: list[Path] = []
    # The photo as the phone took it gives way to the copy that was made of it.
    for path in sorted(listing.images, key=lambda path: (path.suffix.lower() in HEIF_SUFFIXES, path)):
        id = id_of(path, folder)
        if id not in found:
            found[id] = path
        elif path.suffix.lower() in HEIF_SUFFIXES:
            twins.append(path)
        else:
            raise DatasetError(
                f"{folder} has two files with the id {id!r}: {found[id].name} and {path.name}; keep one"
            )
    if not found:
        said = "".join(f" ({note})" for note in listing.notes())
        raise DatasetError(f"{folder} holds no images; expected files such as 1.jpg or 1.png{said}")
    notes = listing.notes()
    if twins:
        notes += (f"{len(twins)} of {folder} are there twice: {twins[0].name} gives way to its copy",)
    return {id: found[id] for id in sorted(found, key=lambda id: found[id])}, notes


def match(images: Mapping[str, Path], masks: Mapping[str, Path]) -> Pairs:
    """The mask of every image that has one: of equal names, or named by one rule over the whole folder.

    Raises DatasetError where masks are named by several rules.
    """
    equal = {key: masks[key] for key in images if key in masks}
    if equal:
        _refuse_mixture(images, masks, equal)
        return Pairs(equal, _unused(masks, equal))
    for what, name in (("the image's file name", _file_name), ("the image's name in another case", _folded)):
        named = {name(key, None): path for key, path in masks.items()}
        alike = {key: named[name(key, path)] for key, path in images.items() if name(key, path) in named}
        if alike and len(set(alike.values())) == len(alike):
            return Pairs(alike, (f"masks are named by {what}", *_unused(masks, alike)))
    for cut in _cuts(images):
        found = _by_rule(images, masks, cut)
        if found:
            rule = _choose(found)
            pairs = found[rule]
            note = f"masks are named by the rule {rule}, {len(pairs)} of {len(images)} images"
            return Pairs(pairs, (note, *_unused(masks, pairs)))
    return Pairs({})


def _file_name(key: str, image: Path | None) -> str:
    """``a.jpg``, which the mask a.jpg.png is called by."""
    return key if image is None else f"{key}{image.suffix}"


def _folded(key: str, image: Path | None) -> str:
    return key.casefold()


def _refuse_mixture(images: Mapping[str, Path], masks: Mapping[str, Path], equal: dict[str, Path]) -> None:
    """Raise DatasetError where images without a mask of their name have one by another rule."""
    other = {key: path for key, path in masks.items() if key not in equal}
    lonely = {key: path for key, path in images.items() if key not in equal}
    found = _by_rule(lonely, other, ("", "")) if other and lonely else {}
    found = {rule: pairs for rule, pairs in found.items() if not _COPIES.search("".join(rule.put))}
    if found:
        _choose({Rule(("", ""), ("", "")): equal, **found})


def _unused(masks: Mapping[str, Path], pairs: Mapping[str, Path]) -> tuple[str, ...]:
    used = set(pairs.values())
    unused = [path for path in masks.values() if path not in used]
    if not unused:
        return ()
    count = "1 mask has" if len(unused) == 1 else f"{len(unused)} masks have"
    return (f"{count} no image: {', '.join(path.name for path in unused[:3])}{' ...' * (len(unused) > 3)}",)


def _cuts(images: Mapping[str, Path]) -> Iterator[tuple[str, str]]:
    """What may be taken from all images' names: nothing, their common end, their common start."""
    names = [key.rpartition("/")[2] for key in images]
    yield "", ""
    for first in (True, False):
        pattern = r"[_\-. ][^_\-. ]+$" if first else r"^[^_\-. ]+[_\-. ]"
        word = re.search(pattern, names[0])
        if word is None:
            continue
        text = word.group()
        cut = ("", text) if first else (text, "")
        if all(name.startswith(cut[0]) and name.endswith(cut[1]) and name != text for name in names):
            yield cut
    # Words without a mark between: img1 and mask1.
    word = re.match(r"[A-Za-z]+", names[0])
    if word is not None and all(re.match(rf"{word.group()}[0-9]", name) for name in names):
        yield word.group(), ""


def _by_rule(
    images: Mapping[str, Path], masks: Mapping[str, Path], cut: tuple[str, str]
) -> dict[Rule, dict[str, Path]]:
    """The pairs that each possible rule makes; a mask goes to the image with the longest name in its own."""
    bases = {_base(key, cut): key for key in images}
    found: dict[Rule, dict[str, Path]] = {}
    for key, path in masks.items():
        for base, put in _readings(key):
            if base in bases and _allowed(cut, put):
                found.setdefault(Rule(cut, put), {})[bases[base]] = path
                break
    return found


def _base(key: str, cut: tuple[str, str]) -> str:
    folder, slash, name = key.rpartition("/")
    return f"{folder}{slash}{name[len(cut[0]) : len(name) - len(cut[1])]}"


def _readings(key: str) -> Iterator[tuple[str, tuple[str, str]]]:
    """A mask's key as an image's with something before or after the name; the longest image first."""
    folder, slash, name = key.rpartition("/")
    yield key, ("", "")
    for length in range(len(name) - 1, 0, -1):
        yield f"{folder}{slash}{name[:length]}", ("", name[length:])
        yield f"{folder}{slash}{name[-length:]}", (name[:-length], "")


def _allowed(cut: tuple[str, str], put: tuple[str, str]) -> bool:
    """Whether a rule can be meant: without a word for labels, only an image's whole name is a proof."""
    text = put[0] or put[1]
    if cut == ("", ""):
        return _SET_OFF.fullmatch(text) is not None or _LABEL.fullmatch(text.strip("_-. ")) is not None
    return not text or _LABEL.search(text) is not None


def _choose(found: dict[Rule, dict[str, Path]]) -> Rule:
    """The rule that all masks follow, copies for looking at aside; DatasetError where there are several."""
    plain = {rule: pairs for rule, pairs in found.items() if not _COPIES.search("".join(rule.put))} or found
    if len(plain) > 1:
        counts = Counter({rule: len(pairs) for rule, pairs in plain.items()})
        told = ", ".join(f"{count} x {rule}" for rule, count in counts.most_common(4))
        example = next(iter(plain[counts.most_common()[-1][0]].values()))
        raise DatasetError(
            f"the masks are named by several rules ({told}; for example {example}); "
            "name all by one, or move those that are not meant into another folder"
        )
    return next(iter(plain))
