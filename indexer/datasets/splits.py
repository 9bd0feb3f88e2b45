"""Splits of a plain folder: lists of images, and subfolders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from indexer.datasets.base import nearest, read_lines
from indexer.datasets.class_lists import CLASS_FILES
from indexer.datasets.names import bare, composed, halves, unquoted, without_flag
from indexer.images.formats import IMAGE_SUFFIXES
from retrieval.errors import DatasetError

#: Lists of these names are splits whatever they begin with.
_USUAL = ("train", "val", "test", "trainval")


@dataclass(frozen=True)
class SplitReader:
    """Reads lists of images: ids, file names or paths, and perhaps the path of each one's mask."""

    images: Mapping[str, Path]  #: by key: the path below ``folder``, composed, without ending
    masks: Mapping[str, Path]  #: the masks that images have, by the images' keys
    folders: Sequence[Path]  #: the folders of images, whose names a list may put before a key

    def lists(self, root: Path) -> dict[str, Path]:
        """Text files that list images, by split; others (a README, say) start with something else."""
        lists: dict[str, Path] = {}
        for path in [*_texts(root), *_texts(root / "splits")]:
            if path.name in CLASS_FILES:
                continue
            usual = path.parent != root or path.stem in _USUAL
            if usual or self._starts_with_image(path):
                lists[path.stem] = path
        return lists

    def read(self, path: Path) -> tuple[list[str], dict[str, Path]]:
        """The keys that a list names, in its order, and the masks that it names beside them.

        Raises DatasetError for a line that names no image.
        """
        keys, masks = [], {}
        for number, line in read_lines(path):
            key, mask = self._line(line, path.stem)
            if key is None:
                folder = self.folders[0].name
                raise DatasetError(
                    f"{path}, line {number}: there is no image {line!r} in {folder}/"
                    f"{nearest(line, self.images)}"
                )
            keys.append(key)
            if mask is not None:
                masks[key] = mask
        return keys, masks

    def _starts_with_image(self, path: Path) -> bool:
        try:
            lines = read_lines(path)
        except DatasetError:
            return False
        return bool(lines) and self._line(lines[0][1], path.stem)[0] is not None

    def _line(self, line: str, split: str) -> tuple[str | None, Path | None]:
        """The image that a line means, and the mask where it names one; a name may hold blanks."""
        whole = self._key(unquoted(line), split)
        if whole is not None:
            return whole, None
        for left, right in halves(line):
            key = self._key(left, split)
            mask = None if key is None else self._mask(right, key)
            if mask is not None:
                return key, mask
        flagged = without_flag(line)
        return (None if flagged is None else self._key(unquoted(flagged), split)), None

    def _key(self, entry: str, split: str) -> str | None:
        """The image that an entry means: an id or a file name, with or without its folders."""
        entry = composed(entry).removeprefix("./")
        entries = [entry]
        for name in (composed(folder.name) for folder in self.folders):
            # Whatever lay above the folder of images where the list was written.
            _, found, below = f"/{entry}".partition(f"/{name}/")
            entries += [below, below.rpartition(f"/{name}/")[2]] if found else []
        names = [name for entry in entries for name in (entry, bare(entry))]
        candidates = (*names, *(f"{split}/{name}" for name in names))
        return next((key for key in candidates if key in self.images), None)

    def _mask(self, entry: str, key: str) -> Path | None:
        """The mask that a line names beside an image, which is one of those that were found."""
        own = self.masks.get(key)
        is_path = "/" in composed(entry)
        for folder in self.folders if is_path else ():
            named = folder.parent / composed(entry)
            if own is not None and named != own and named.is_file():
                return named  # a list may name masks of another folder
        name = bare(entry).rpartition("/")[2]
        if own is not None and composed(own.stem) == name:
            return own
        if not is_path and Path(entry).suffix.lower() not in IMAGE_SUFFIXES:
            return None  # VOC's flags (1, -1, 0) are no names
        fitting = self._masks_by_stem.get(name, [])
        return fitting[0] if len(fitting) == 1 else None

    @cached_property
    def _masks_by_stem(self) -> dict[str, list[Path]]:
        found: dict[str, list[Path]] = {}
        for path in self.masks.values():
            found.setdefault(composed(path.stem), []).append(path)
        return found


def _texts(folder: Path) -> list[Path]:
    """The text files of a folder, whatever the case of their ending."""
    return sorted(path for path in folder.glob("[!.]*") if path.suffix.lower() == ".txt" and path.is_file())
