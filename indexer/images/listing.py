"""What a folder holds: the images that can be read, and what is left out."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from indexer.images.formats import HEIF_EXTRA, HEIF_SUFFIXES, IMAGE_SUFFIXES, can_read

#: Folders that systems put beside a user's files, with files of their own in them.
_SYSTEM_FOLDERS = frozenset({"__MACOSX", "@eaDir", "$RECYCLE.BIN"})
#: Files (lower case) that systems put among a user's.
_SYSTEM_FILES = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini"})


@dataclass(frozen=True)
class Listing:
    """The files below a folder at any depth, hidden ones aside; each tuple is sorted by path."""

    folder: Path
    images: tuple[Path, ...]
    left_out: tuple[Path, ...] = ()  #: files of other kinds that hold something
    broken: tuple[Path, ...] = ()  #: links that lead nowhere or into a loop, folders that may not be read

    def endings(self) -> tuple[tuple[str, int], ...]:
        """The endings of what was left out, lower case, with how many of each; most first."""
        return count_endings(self.left_out)

    def notes(self) -> tuple[str, ...]:
        """One sentence for files left out and one for broken links; none where there are none."""
        return tuple(filter(None, (describe_endings(self.endings(), self.folder), self._broken())))

    def _broken(self) -> str:
        if not self.broken:
            return ""
        named = ", ".join(map(_lead, self.broken[:3]))
        more = f" and {len(self.broken) - 3} more" if len(self.broken) > 3 else ""
        return f"left out, since it leads nowhere or into a loop or may not be read: {named}{more}"


def _lead(path: Path) -> str:
    return f"{path} -> {path.readlink()}" if path.is_symlink() else str(path)


def list_folder(folder: Path, suffixes: frozenset[str] = IMAGE_SUFFIXES) -> Listing:
    """Look through a folder and its subfolders, linked ones too, without opening a file.

    ``suffixes`` are the endings (lower case) of what counts as its images, or as its texts or recordings.
    """
    images: list[Path] = []
    others: list[Path] = []
    broken: list[Path] = []
    for path in _walk(folder, (os.path.realpath(folder),), broken):
        kind = images if path.suffix.lower() in suffixes and can_read(path) else others
        kind.append(path)
    left_out = sorted(path for path in others if path.stat().st_size)
    return Listing(folder, tuple(sorted(images)), tuple(left_out), tuple(sorted(broken)))


def list_images(folder: Path) -> list[Path]:
    """The image files below a folder, at any depth, sorted by path; hidden files are left out."""
    return list(list_folder(folder).images)


def holds_images(folder: Path, suffixes: frozenset[str] = IMAGE_SUFFIXES) -> bool:
    """Whether there is an image (a file with one of the endings) in a folder; a look, however much there is.

    Only the first files below it are seen.
    """
    if not folder.is_dir():
        return False
    first = islice(_walk(folder, (os.path.realpath(folder),), []), 1000)
    return any(path.suffix.lower() in suffixes and can_read(path) for path in first)


def subfolders(folder: Path) -> list[Path]:
    """The folders directly in a folder, linked ones too, sorted, without hidden ones; none if unreadable."""
    try:
        return sorted(path for path in folder.iterdir() if not _hidden(path.name) and path.is_dir())
    except OSError:
        return []


def _walk(folder: Path, chain: tuple[str, ...], broken: list[Path]) -> Iterator[Path]:
    """The files below ``folder``; ``chain`` are the real paths of the folders on the way to it."""
    try:
        with os.scandir(folder) as entries:
            found = [entry for entry in entries if not _hidden(entry.name)]
    except PermissionError:
        broken.append(folder)
        return
    for entry in found:
        path = folder / entry.name
        try:
            is_file, is_folder = entry.is_file(), entry.is_dir()
        except OSError:  # a link to itself
            is_file = is_folder = False
        if is_file:
            yield path
        elif is_folder:
            real = os.path.realpath(path) if entry.is_symlink() else str(Path(chain[-1], entry.name))
            # A link to a folder on the way here, or above one of them, would come by here again.
            if entry.is_symlink() and any(Path(passed).is_relative_to(real) for passed in chain):
                broken.append(path)
            else:
                yield from _walk(path, (*chain, real), broken)
        elif entry.is_symlink():
            broken.append(path)


def _hidden(name: str) -> bool:
    return name.startswith(".") or name in _SYSTEM_FOLDERS or name.lower() in _SYSTEM_FILES


def count_endings(paths: Iterable[Path]) -> tuple[tuple[str, int], ...]:
    """The endings of files, lower case (a name without one stands for itself), and how many; most first."""
    counts = Counter(path.suffix.lower() or path.name for path in paths)
    return tuple(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def describe_endings(endings: Sequence[tuple[str, int]], folder: Path) -> str:
    """``left out of FOLDER: 12 .heic (install mycelia[heif]), 3 .mov``, or nothing."""
    if not endings:
        return ""
    parts = [f"{count} {ending}{_cure(ending)}" for ending, count in endings[:8]]
    parts += [f"{sum(count for _, count in endings[8:])} others"] if len(endings) > 8 else []
    return f"left out of {folder}: {', '.join(parts)}"


def _cure(ending: str) -> str:
    if ending in HEIF_SUFFIXES:
        return f" (install mycelia[{HEIF_EXTRA}])"
    return " (this Pillow cannot read it; install pillow>=11.3)" if ending == ".avif" else ""
