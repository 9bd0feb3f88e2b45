"""Names as people and systems write them, and the files they mean."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from indexer.audio.formats import AUDIO_SUFFIXES
from indexer.images.formats import HEIF_SUFFIXES, IMAGE_SUFFIXES

#: Endings that lists give ids: of images, of files of labels, and of the photos that others were made from.
_ENDINGS = (
    IMAGE_SUFFIXES
    | AUDIO_SUFFIXES
    | {".xml", ".json", ".txt", ".npy", ".npz", ".svg"}
    | {".dng", ".raw", ".cr2", ".cr3", ".nef", ".arw", ".tga"}
)
_BETWEEN = re.compile(r"[ \t]*[\t,;][ \t]*|[ \t]+")
#: What VOC's lists of one class say after an id: the class is there, is not, or is there but difficult.
_FLAGS = ("1", "-1", "0")


def composed(name: str) -> str:
    """A name with ``/`` between folders and its accents composed (macOS writes them decomposed)."""
    return unicodedata.normalize("NFC", name).replace("\\", "/")


def bare(name: str) -> str:
    """A composed name without its file ending; a dot in ``a.v2`` or ``J.Doe`` begins none."""
    name = composed(name)
    stem, _, ending = name.rpartition(".")
    ends = f".{ending.lower()}" in _ENDINGS
    return stem if stem and not stem.endswith("/") and ends else name


def id_of(path: Path, folder: Path) -> str:
    """The id of an image below a folder: its path there, composed, without its ending."""
    return composed(path.relative_to(folder).with_suffix("").as_posix())


def unquoted(entry: str) -> str:
    """An entry without the quotes that some tools put around names with blanks."""
    entry = entry.strip()
    return entry[1:-1].strip() if len(entry) > 1 and entry[0] == entry[-1] and entry[0] in "\"'" else entry


def halves(line: str) -> Iterator[tuple[str, str]]:
    """Every way to cut a line in two at blanks, tabs, commas or semicolons, quotes taken off.

    Names may hold blanks themselves, so whoever asks takes the cut whose parts exist.
    """
    for gap in _BETWEEN.finditer(line):
        left, right = unquoted(line[: gap.start()]), unquoted(line[gap.end() :])
        if left and right:
            yield left, right


def without_flag(line: str) -> str | None:
    """An id without the 1, -1 or 0 that VOC's lists of one class put after it; None where there is none."""
    words = line.rsplit(None, 1)
    return words[0] if len(words) == 2 and words[1] in _FLAGS else None


class Files:
    """Finds files below a root by names that differ from theirs in accents, case or ending.

    Every folder is read once, when it is first asked for.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._folders: dict[Path, _Folder] = {}

    def find(self, entry: str) -> Path | None:
        """The file that a list's entry means, or None.

        Tried in turn: the entry below the root, and its last two parts below the root, for lists whose
        author had another prefix; each as it is, and then with another ending of images.
        """
        parts = _parts(entry)
        for tail in dict.fromkeys((parts, parts[-2:])):
            found = self._descend(tail) if tail else None
            if found is not None:
                return found
        return None

    def expect(self, entry: str) -> Path:
        """:meth:`find`, or where the file would be, so that reading it names it."""
        return self.find(entry) or self.root.joinpath(*_parts(entry)[-2:])

    def _descend(self, parts: tuple[str, ...]) -> Path | None:
        path = self.root.joinpath(*parts)
        if path.is_file():
            return path
        folder: Path | None = self.root
        for part in parts[:-1]:
            assert folder is not None
            folder = folder / part if (folder / part).is_dir() else self._list(folder).folder(part)
            if folder is None:
                return None
        assert folder is not None
        return self._list(folder).file(parts[-1])

    def _list(self, folder: Path) -> _Folder:
        if folder not in self._folders:
            self._folders[folder] = _Folder(folder)
        return self._folders[folder]


def _parts(entry: str) -> tuple[str, ...]:
    return tuple(part for part in composed(entry).split("/") if part not in ("", ".", ".."))


class _Folder:
    """The names in one folder, by what is equal in them."""

    def __init__(self, path: Path) -> None:
        entries = sorted(path.iterdir(), key=_preference) if path.is_dir() else []
        files = [entry for entry in entries if entry.suffix.lower() in IMAGE_SUFFIXES]
        self._folders = {composed(entry.name): entry for entry in entries if entry.is_dir()}
        self._names = {composed(entry.name): entry for entry in reversed(files)}
        self._stems = {composed(entry.stem): entry for entry in reversed(files)}
        self._loose: dict[str, set[str]] = {}
        for stem in self._stems:
            self._loose.setdefault(stem.casefold(), set()).add(stem)

    def folder(self, name: str) -> Path | None:
        """The folder of that name, however its accents are written, or None."""
        return self._folders.get(name)

    def file(self, name: str) -> Path | None:
        """The file of that name, with or without an ending; case may differ where one file fits."""
        found = self._names.get(name) or self._stems.get(name) or self._stems.get(bare(name))
        if found is not None:
            return found
        alike = self._loose.get(bare(name).casefold(), set())
        return self._stems[min(alike)] if len(alike) == 1 else None


def _preference(path: Path) -> tuple[int, Path]:
    """Of files that differ in their ending alone, the usual ones first and those that need an extra last."""
    suffix = path.suffix.lower()
    usual = (".jpg", ".png", ".jpeg")
    return usual.index(suffix) if suffix in usual else 4 if suffix in HEIF_SUFFIXES else 3, path
