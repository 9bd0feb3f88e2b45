"""Lists of images and masks, line by line, as people and tools write them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from indexer.datasets.names import Files, bare, composed, halves, id_of, unquoted, without_flag
from indexer.datasets.pairs import by_key, match
from indexer.images.formats import IMAGE_SUFFIXES
from indexer.images.listing import list_folder
from retrieval.errors import DatasetError


@dataclass(frozen=True)
class Listed:
    """What a line names: an image, its id and its mask; where nothing exists, what was expected."""

    id: str
    image: Path
    mask: Path


class PathLines:
    """Reads lines that name an image and its mask by their paths.

    Names may hold blanks, so what exists decides where a line is cut. Paths may have any prefix and be
    written for Windows; accents, case and ending may differ from the file's.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files = Files(root)

    def read(self, line: str, *, where: str) -> Listed:
        """The image and the mask of a line; DatasetError, naming ``where``, for one that makes no sense."""
        found = self.pair(line, where=where)
        if found is not None:
            return found
        words = line.split()
        if len(words) != 2:
            raise DatasetError(f"{where}: expected the paths of an image and its mask, not {line!r}")
        image, mask = (self.files.expect(unquoted(word)) for word in words)
        return Listed(composed(image.stem), image, mask)

    def pair(self, line: str, *, where: str) -> Listed | None:
        """The image and the mask that two parts of a line name, where both exist.

        Raises DatasetError where there are two ways to cut it.
        """
        found = {}
        for left, right in halves(line):
            image = self.find_image(left)
            mask = None if image is None else self.find_mask(right)
            if image is not None and mask is not None:
                found[image, mask] = Listed(composed(image.stem), image, mask)
        if len(found) > 1:
            raise DatasetError(
                f"{where}: {line!r} can mean {len(found)} pairs of files; put quotes around the two names"
            )
        return next(iter(found.values()), None)

    def find_image(self, entry: str) -> Path | None:
        """The image that an entry names, or None."""
        return self.files.find(entry)

    def find_mask(self, entry: str) -> Path | None:
        """The mask that an entry names, or None."""
        return self.files.find(entry)


class IdLines(PathLines):
    """Reads lines that are ids, or paths as :class:`PathLines` does.

    An id may have its file's ending, subfolders, blanks, or (in VOC's lists of one class) a 1, -1 or 0
    after it. Its mask is looked for in the folders of masks in turn.
    """

    def __init__(self, root: Path, *, images: str, masks: Sequence[str]) -> None:
        super().__init__(root)
        self._images, self._masks = images, masks

    def read(self, line: str, *, where: str) -> Listed:
        """The image and the mask of a line; DatasetError, naming ``where``, for one that makes no sense."""
        entry, flagged = unquoted(line), without_flag(line)
        found = self._by_id(entry) or self.pair(line, where=where)
        if found is None and flagged is not None:
            entry = unquoted(flagged)
            found = self._by_id(entry)
        return found or self._expected(entry, where=where)

    def find_image(self, entry: str) -> Path | None:
        """The image that an entry names by its path, or in the folder of images."""
        return (super().find_image(entry) if "/" in composed(entry) else None) or self._below(entry)

    def find_mask(self, entry: str) -> Path | None:
        """The mask that an entry names by its path, or as a file name."""
        if "/" in composed(entry):
            return super().find_mask(entry)
        named = Path(entry).suffix.lower() in IMAGE_SUFFIXES
        return self._mask(bare(entry)) if named else None

    def _below(self, entry: str) -> Path | None:
        return self.files.find(f"{self._images}/{composed(entry).removeprefix('/')}")

    def _by_id(self, entry: str) -> Listed | None:
        if "/" in composed(entry):
            image = super().find_image(entry)
            if image is not None:
                return self._of(composed(image.stem), image)
        image = self._below(entry)
        folder = self.root / self._images
        if image is None or not image.is_relative_to(folder):
            return None
        return self._of(id_of(image, folder), image)

    def _of(self, id: str, image: Path) -> Listed:
        return Listed(id, image, self._mask(id) or self.root / self._masks[0] / f"{id}.png")

    def _mask(self, id: str) -> Path | None:
        paths = (self.files.find(f"{folder}/{id}.png") for folder in self._masks)
        return next((path for path in paths if path is not None), None)

    def _expected(self, line: str, *, where: str) -> Listed:
        """A line whose image is not there, read by its form."""
        words, paths = line.split(), "/" in composed(line)
        if len(words) > (2 if paths else 1):
            what = (
                "the paths of an image and its mask"
                if paths
                else "an id or the paths of an image and its mask"
            )
            raise DatasetError(f"{where}: expected {what}, not {line!r}, and no image has that name")
        if not paths:
            id = bare(line)
            return self._of(id, self.root / self._images / f"{id}.jpg")
        image = self.files.expect(words[0])
        listed = self._of(composed(image.stem), image)
        mask = self.files.find(words[1]) if len(words) == 2 else None
        return listed if mask is None else replace(listed, mask=mask)


def finish(items: Sequence[Listed], root: Path) -> tuple[list[Listed], tuple[str, ...]]:
    """The items with ids that tell them apart, masks by one rule where none has its image's name, and notes.

    Images of one name in several folders get the folder into their ids.
    """
    images: dict[str, set[Path]] = {}
    for item in items:
        images.setdefault(item.id, set()).add(item.image)
    items = [
        replace(item, id=id_of(item.image, root)) if len(images[item.id]) > 1 else item for item in items
    ]
    return _masks_by_rule(items)


def _masks_by_rule(items: Sequence[Listed]) -> tuple[list[Listed], tuple[str, ...]]:
    folders = Counter(item.mask.parent for item in items)
    if not items or any(item.mask.is_file() for item in items):
        return list(items), ()
    folder = folders.most_common()[0][0]
    listing = list_folder(folder) if folder.is_dir() else None
    if listing is None or not listing.images:
        return list(items), ()
    pairs = match({item.id: item.image for item in items}, by_key(listing)[0])
    return [replace(item, mask=pairs.masks.get(item.id, item.mask)) for item in items], pairs.notes
