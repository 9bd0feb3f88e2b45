"""A table of image paths and labels: train.csv and val.csv, one CSV or TSV of any name, or the file itself.

A header names the columns (path, image, file or filename; label, labels, class or category); without one the
first two columns are taken. Several labels of an image stand in one cell, between ``;`` or ``|``.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from indexer.datasets.base import Dataset, Layout, Sample, check_samples, pick_split, read_text, split_names
from indexer.datasets.names import Files, bare, composed
from indexer.datasets.whole import ClassLabels, classes_of_names, is_split_name
from indexer.images.formats import IMAGE_SUFFIXES
from indexer.images.listing import holds_images, subfolders
from retrieval.errors import DatasetError

_ENDINGS = (".csv", ".tsv")
_PATHS = ("path", "image", "file", "filename")
_LABELS = ("label", "labels", "class", "category")
_TEXTS = ("text", "texts", "sentence", "utterance", "query")
_EXPECTED = f"a column of image paths ({', '.join(_PATHS)}) and one of labels ({', '.join(_LABELS)})"


@dataclass(frozen=True)
class _Row:
    """A line of a table: an image, as it is written there, and its labels."""

    line: int
    entry: str
    labels: tuple[str, ...]


@dataclass(frozen=True)
class _Table:
    """What lies in a file, as cells, and which columns count."""

    path: Path
    rows: tuple[tuple[int, tuple[str, ...]], ...]  #: line number from 1 and cells, the header left off
    header: tuple[str, ...]  #: lower case; empty where there is none
    problem: str  #: what is wrong with the header, or nothing

    @property
    def names_images(self) -> bool:
        """Whether this is a table of images: by its header, or by the ending of its first entry."""
        if set(self.header) & set(_PATHS):
            return not self.problem
        return bool(self.rows) and not self.problem and _is_image_name(self.rows[0][1][0])

    @property
    def holds_texts(self) -> bool:
        header = set(self.header)
        return bool(header & set(_TEXTS) and header & set(_LABELS) and not header & set(_PATHS))

    def read(self) -> list[_Row]:
        """The rows; DatasetError with the line for a bad one, or for a bad header."""
        if self.problem:
            raise DatasetError(self.problem)
        place, label = (_column(self.header, names, i) for i, names in enumerate((_PATHS, _LABELS)))
        return [self._row(line, cells, place, label) for line, cells in self.rows]

    def _row(self, line: int, cells: tuple[str, ...], place: int, label: int) -> _Row:
        where = f"{self.path}, line {line}"
        if len(cells) <= max(place, label):
            raise DatasetError(
                f"{where}: expected a path and a label, found {len(cells)} column{'s'[: len(cells) > 1]}; "
                "separate the columns as in the first line, and quote what holds the separator"
            )
        entry = cells[place].strip()
        if not entry:
            raise DatasetError(f"{where}: the path of the image is empty; give it or remove the line")
        words = (word.strip() for word in re.split(r"[;|]", cells[label]))
        labels = tuple(dict.fromkeys(word for word in words if word))
        if not labels:
            raise DatasetError(f"{where}: the label of {entry} is empty; give it or remove the line")
        return _Row(line, entry, labels)


def is_table(path: Path) -> bool:
    """Whether this is a file whose ending is that of a table."""
    return path.suffix.lower() in _ENDINGS and path.is_file()


def find(path: Path) -> Path | None:
    """``path`` where it is a table, or a folder with tables of images; or None.

    Raises DatasetError for a table of texts, which are not read yet.
    """
    tables = _tables(path)
    if tables and not any(table.names_images for table in tables):
        texts = next((table for table in tables if table.holds_texts), None)
        if texts is not None and not any(map(holds_images, subfolders(path))):
            raise DatasetError(texts.problem)
    return path if tables else None


def load(root: Path, split: str | None) -> Dataset:
    """The samples of a split's table, in its order; classes are those of the tables of all splits.

    Raises DatasetError, naming the line, for a missing column, an empty path or label, an image that is named
    twice, or a file that is no table.
    """
    tables = _by_split(root)
    chosen, table = pick_split(tables, split, where=root)
    rows = table.read()
    names = {label for row in rows for label in row.labels}
    notes = []
    for other in _beside(root, tables):
        if other.path == table.path:
            continue
        if other.problem:  # a test set without labels, say
            notes.append(f"the classes of {other.path.name} are not counted: {other.problem}")
        else:
            names.update(label for row in other.read() for label in row.labels)
    folder = table.path.parent
    classes = classes_of_names(names, where=str(folder))
    columns = {name: column for column, name in enumerate(classes.names)}
    images = _find_images(table.path, rows)
    count = Counter(bare(row.entry) for row in rows)
    samples = []
    for row, image in zip(rows, images, strict=True):
        entry = composed(row.entry).removeprefix("./")
        id = entry if count[bare(row.entry)] > 1 else bare(entry)
        labelled = sorted((columns[label], label) for label in row.labels)
        where = f"{table.path}, line {row.line}"
        found, called = tuple(c for c, _ in labelled), tuple(n for _, n in labelled)
        samples.append(Sample(id, image, ClassLabels(found, where, called)))
    lost = [row for row, image in zip(rows, images, strict=True) if not image.is_file()]
    if lost:
        notes.append(
            f"{len(lost)} of {len(rows)} images that {table.path} names are missing, "
            f"the first in line {lost[0].line}: {lost[0].entry}"
        )
    return Dataset(
        name=folder.resolve().name,
        format="table",
        root=folder,
        split=chosen,
        samples=check_samples(samples, where=table.path),
        classes=classes,
        notes=tuple(notes),
        whole=True,
    )


def splits(root: Path) -> list[str]:
    """The names of the splits, sorted; empty where there are none."""
    return split_names(_by_split(root))


def _by_split(root: Path) -> dict[str, _Table]:
    """The tables of a root by the names of their splits; the name is empty where one table is all."""
    tables = _tables(root)
    several = root.is_dir() and len(tables) > 1
    stems = [table.path.stem for table in tables]
    return {
        stem if several or is_split_name(stem) else "": table
        for stem, table in zip(stems, tables, strict=True)
    }


def _tables(root: Path) -> list[_Table]:
    """The tables of a root: itself, those called as splits, or all that name images; each split once."""
    if root.is_file():
        return [_read_table(root)]
    paths = sorted(path for path in root.glob("[!.]*") if is_table(path))
    named = [path for path in paths if is_split_name(path.stem)]
    tables = [_read_table(path) for path in named]
    if not any(table.names_images or table.problem for table in tables):
        tables = [table for path in paths if (table := _read_table(path)).names_images or table.holds_texts]
    twins = [stem for stem, count in Counter(table.path.stem for table in tables).items() if count > 1]
    if twins:
        raise DatasetError(f"{root} has {twins[0]}.csv and {twins[0]}.tsv; rename or remove one of them")
    return tables


def _beside(root: Path, tables: dict[str, _Table]) -> list[_Table]:
    """The tables whose classes count: of all splits, also where the path is that of one split's table."""
    if root.is_file() and is_split_name(root.stem):
        return [table for table in _tables(root.parent) if is_split_name(table.path.stem)]
    return list(tables.values())


def _read_table(path: Path) -> _Table:
    try:
        text = read_text(path)
        rows = list(_cells(text, path))
    except (OSError, UnicodeDecodeError) as problem:
        return _Table(path, (), (), f"{path} cannot be read as text ({problem}); save it as CSV in UTF-8")
    except csv.Error as problem:
        return _Table(path, (), (), f"{path} is no valid CSV ({problem}); check the quotes")
    if not rows:
        return _Table(path, (), (), f"{path} is empty; expected {_EXPECTED}")
    line, first = rows[0]
    words = tuple(cell.strip().lower() for cell in first)
    if not _is_header(rows):
        few = f"{path}, line {line}: found 1 column, expected {_EXPECTED}" if len(words) < 2 else ""
        return _Table(path, tuple(rows), (), few)
    return _Table(path, tuple(rows[1:]), words, _header_problem(path, line, words))


def _header_problem(path: Path, line: int, header: tuple[str, ...]) -> str:
    has_path, has_label = (bool(set(header) & set(names)) for names in (_PATHS, _LABELS))
    if has_path == has_label and len(header) > 1:
        return ""
    columns = ", ".join(header[:8])
    if has_label and not has_path and set(header) & set(_TEXTS):
        return (
            f"{path} has the columns {columns}: texts are not read yet; expected {_EXPECTED}; "
            "give a table of images"
        )
    return f"{path}, line {line}: expected {_EXPECTED}, found {columns}; name the columns so"


def _is_header(rows: list[tuple[int, tuple[str, ...]]]) -> bool:
    """Whether the first row names columns: by known words, or by an image that only the second names."""
    first = [cell.strip().lower() for cell in rows[0][1]]
    if _is_image_name(first[0]):
        return False
    if set(first) & {*_PATHS, *_LABELS}:
        return True
    return len(rows) > 1 and _is_image_name(rows[1][1][0])


def _is_image_name(cell: str) -> bool:
    return Path(cell.strip()).suffix.lower() in IMAGE_SUFFIXES


def _column(header: tuple[str, ...], names: tuple[str, ...], usual: int) -> int:
    return next((header.index(name) for name in names if name in header), usual)


def _cells(text: str, path: Path) -> Iterator[tuple[int, tuple[str, ...]]]:
    """The rows of a table that are not blank, each with the number of its first line."""
    first = next((line for line in text.splitlines() if line.strip()), "")
    between = "\t" if path.suffix.lower() == ".tsv" else next((mark for mark in ",;\t" if mark in first), ",")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=between, strict=True)
    start = 1
    for cells in reader:
        if any(cell.strip() for cell in cells):
            yield start, tuple(cells)
        start = reader.line_num + 1


def _find_images(source: Path, rows: list[_Row]) -> list[Path]:
    """The file of every row, or where it would be; DatasetError where two rows mean the same one."""
    places = [source.parent, source.parent / "images", source.parent / source.stem]
    files = [Files(place) for place in places if place.is_dir()]
    lines: dict[Path, int] = {}
    found = []
    for row in rows:
        image = _find_image(row.entry, places, files)
        before = lines.setdefault(image, row.line)
        if before != row.line:
            raise DatasetError(
                f"{source}, line {row.line}: {row.entry} is named in line {before} already; "
                "remove one, or write several labels as a;b in one line"
            )
        found.append(image)
    return found


def _find_image(entry: str, places: list[Path], files: list[Files]) -> Path:
    name = composed(entry).removeprefix("./")
    exact = next((place / name for place in places if (place / name).is_file()), None)
    if exact is not None:
        return exact
    loose = (place.find(name) for place in files)
    return next((path for path in loose if path is not None), places[0] / name)


LAYOUT = Layout(
    "table",
    "train.csv, val.csv and so on, or one .csv or .tsv, of image paths and labels, for images that have a "
    "class as a whole",
    find,
    load,
    splits,
)
