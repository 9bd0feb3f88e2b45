"""What lies in the folder of a data set, all splits of it, whether or not it could be loaded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from indexer.datasets.base import Dataset, Layout, Sample, name_samples
from indexer.datasets.labels import MaskFile
from indexer.datasets.tools.entries import Entry
from retrieval.classes import ClassMap
from retrieval.errors import DataError, DatasetError
from retrieval.store.paths import real_path


@dataclass(frozen=True)
class Outline:
    """The samples of every split of a data set by the names of its files, classes perhaps unknown."""

    root: Path
    layout: Layout
    splits: tuple[tuple[str, Dataset], ...]  #: ("", ...) alone where there are no splits
    refusals: tuple[tuple[str, str], ...]  #: splits that cannot be read ("": any), and why

    @classmethod
    def of(cls, root: Path, layout: Layout) -> Outline:
        """Look at all splits of a root; one that cannot be read is refused and empty; never raises."""
        refusals: list[tuple[str, str]] = []
        parts: list[tuple[str, Dataset]] = []
        names: Sequence[str] = ()
        try:
            names = layout.splits(root) if layout.splits is not None else ()
        except DataError as error:
            refusals.append(("", str(error)))
        for name in names or ("",) if not refusals else ():
            try:
                part = (layout.draft or layout.load)(root, name or None)
            except DataError as error:
                refusals.append((name, str(error)))
                part = Dataset(real_path(root).name, layout.name, root, name or None, (), ClassMap(()))
            parts.append((name, part))
        return cls(root, layout, tuple(parts), tuple(refusals))

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the splits; empty where there are none."""
        return tuple(name for name, _ in self.splits if name)

    @property
    def samples(self) -> tuple[Sample, ...]:
        """Those of all splits, each image once, as the first split has it; of texts in tables every one."""
        found: dict[Path | str, Sample] = {}
        for item in self._listed():
            found.setdefault(item.image if item.text is None else item.id, item)
        return tuple(found.values())

    def draft(self, split: str | None) -> Dataset:
        """The samples of a split (DatasetError for an unknown one), or of all splits together."""
        if split is not None:
            if split not in self.names:
                listed = ", ".join(self.names) or "there are none"
                raise DatasetError(f"{self.root} has no split {split!r}; its splits: {listed}")
            return dict(self.splits)[split]
        parts = [part for _, part in self.splits]
        if len(parts) == 1:
            return parts[0]
        classes = max((part.classes for part in parts), key=len, default=ClassMap(()))
        name = parts[0].name if parts else real_path(self.root).name
        whole = any(part.whole for part in parts)
        notes = tuple(dict.fromkeys(note for part in parts for note in part.notes)) if whole else ()
        kind = parts[0].kind if parts else "image"
        return Dataset(
            name, self.layout.name, self.root, None, self.samples, classes, notes, whole=whole, kind=kind
        )

    def with_classes(self, draft: Dataset, masks: Sequence[Path]) -> Dataset:
        """The draft with its classes: those that are named, or else found in ``masks``.

        Raises DataError where a build would find none, ValueError where there is nothing to find any in.
        """
        if self.layout.classes is None or self.layout.draft is None:
            return draft
        classes, colors = self.layout.classes(self.root, masks)
        return replace(draft, samples=name_samples(draft.samples, classes, colors), classes=classes)

    def image_folders(self) -> tuple[Path, ...]:
        """The folders in which the images lie, none within another."""
        return _outermost({item.image.parent for item in self._listed()})

    def mask_folders(self) -> tuple[Path, ...]:
        """The folders in which the masks lie, none within another."""
        return _outermost({mask.parent for mask in self.mask_files()})

    def mask_files(self) -> set[Path]:
        """The masks of all splits, those among them that are missing, too."""
        return {item.labels.path for item in self._listed() if isinstance(item.labels, MaskFile)}

    def label_files(self) -> set[Path]:
        """The files of labelling tools that were read."""
        return {item.labels.file for item in self._listed() if isinstance(item.labels, Entry)}

    def _listed(self) -> Iterator[Sample]:
        return (item for _, part in self.splits for item in part.samples)


def _outermost(folders: set[Path]) -> tuple[Path, ...]:
    return tuple(
        folder
        for folder in sorted(folders)
        if folder.is_dir() and not any(parent in folders for parent in folder.parents)
    )
