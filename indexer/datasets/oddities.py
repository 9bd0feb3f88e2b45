"""What is odd about the files of a data set, though each may be read: strays, twins, empty bits."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from indexer.datasets.outline import Outline
from indexer.images import list_folder, list_images, read_image
from indexer.images.decode import open_image
from indexer.images.headers import ImageHeader, read_header
from indexer.images.listing import count_endings
from retrieval.errors import ImageError
from retrieval.store.paths import real_path

#: (kind, name of the file, sentence)
Problem = tuple[str, str, str]

#: Names kept of an oddity that many files share.
MOST_NAMES = 5
#: Bytes read at most to find equal files.
MOST_BYTES = 256_000_000
#: Files that other programs put into a folder; nobody misses them.


@dataclass(frozen=True)
class Oddity:
    """Something a person should look at: one file's problem, or the same one of several."""

    kind: str  #: what it is about: mask, no mask, size, palettes, classes, image, photo, twins, stray, ...
    count: int
    message: str  #: of the first file; where a build would stop, the build's own sentence
    names: tuple[str, ...]  #: the first files


def group(problems: Iterable[Problem]) -> tuple[Oddity, ...]:
    """One oddity for all problems that differ in the file and in numbers alone, in the order of the first."""
    groups: dict[tuple[str, str], list[Problem]] = defaultdict(list)
    for problem in problems:
        kind, name, message = problem
        same = "" if kind in ("no mask", "size") else re.sub(r"\d+", "#", message.replace(name or "\0", ""))
        groups[kind, same].append(problem)
    return tuple(
        Oddity(kind, len(found), found[0][2], tuple(name for _, name, _ in found[:MOST_NAMES] if name))
        for (kind, _), found in groups.items()
    )


def odd_photos(paths: Sequence[Path]) -> list[Problem]:
    """Photos that cannot be read, and those whose pixels are not what they seem."""
    problems: list[Problem] = []
    for path in paths:
        header = read_header(path)
        try:
            pixels = read_image(path)
        except ImageError as error:
            problems.append(("image", str(path), str(error)))
            continue
        if header is not None:
            problems += [("photo", str(path), text) for text in _odd_pixels(path, header)]
        if pixels.size and pixels.min() == pixels.max():
            problems.append(("photo", str(path), f"image {path} has one colour everywhere"))
    return problems


def opaque_masks(paths: Sequence[Path]) -> list[Problem]:
    """Masks with an alpha channel; those that are transparent somewhere are refused anyway."""
    return [
        ("mask alpha", str(path), f"mask {path} has an alpha channel, which says nothing of classes")
        for path in paths
        if (header := read_header(path)) is not None and header.mode in ("LA", "RGBA", "PA")
    ]


def _odd_pixels(path: Path, header: ImageHeader) -> list[str]:
    texts = []
    if header.pages > 1:
        texts.append(f"image {path} has several pages, of which the first is read")
    with suppress(Exception), open_image(path, where=str(path), error=ImageError) as image:
        if header.mode.startswith("I"):
            largest = int(np.array(image).max())
            bits = largest.bit_length()
            if 0 < bits < 15:
                texts.append(
                    f"image {path} has 16 bits a pixel, of which {bits} are in use "
                    f"(the largest value is {largest})"
                )
        elif header.mode in ("RGBA", "LA") and image.getchannel("A").getextrema() == (0, 0):
            texts.append(f"image {path} is transparent everywhere; its alpha hides what it shows")
    return texts


def duplicates(splits: Mapping[str, Sequence[Path]]) -> list[Problem]:
    """Images with the same bytes as an earlier one; files of equal size are compared by checksum.

    At most :data:`MOST_BYTES` are read. An image that several splits name is counted once.
    """
    split_of: dict[Path, str] = {}
    for name, paths in splits.items():
        for path in paths:
            split_of.setdefault(path, name)
    by_size: dict[int, list[Path]] = defaultdict(list)
    for path in split_of:
        with suppress(OSError):
            by_size[path.stat().st_size].append(path)
    problems: list[Problem] = []
    seen: dict[tuple[int, bytes], Path] = {}
    budget = MOST_BYTES
    for size, paths in by_size.items():
        for path in paths if len(paths) > 1 else ():
            if size > budget:
                break
            budget -= size
            with suppress(OSError):
                first = seen.setdefault((size, hashlib.sha256(path.read_bytes()).digest()), path)
                if first is not path:
                    problems.append(_twin(path, first, split_of))
    return problems


def _twin(path: Path, first: Path, split_of: Mapping[Path, str]) -> Problem:
    one, other = split_of[first], split_of[path]
    if one == other:
        return ("twins", str(path), f"images with the same content, among them {first} and {path}")
    return (f"twins {one} {other}", str(path), f"split {other} has images of split {one}: {path} is {first}")


def stray_files(outline: Outline) -> list[Problem]:
    """Images that no split names, and masks that belong to no image."""
    images = {real_path(item.image) for item in outline.samples}
    masks = {real_path(path) for path in outline.mask_files()}
    problems: list[Problem] = []
    for folders, known, kind, text in (
        (outline.image_folders(), images, "unlisted image", "is in no split"),
        (outline.mask_folders(), masks, "mask without image", "belongs to no image that is read"),
    ):
        what = kind.split()[0] if kind.startswith("mask") else "image"
        for folder in folders:
            strays = [path for path in list_images(folder) if real_path(path) not in known]
            problems += [(kind, str(path), f"{what} {path} {text}") for path in strays]
    return problems


def unread_endings(folders: Iterable[Path], labels: Set[Path]) -> tuple[tuple[str, int], ...]:
    """The endings of files in these folders that are neither images nor ``labels``, and how many of each."""
    left_out = (path for folder in folders for path in list_folder(folder).left_out if path not in labels)
    return count_endings(left_out)
