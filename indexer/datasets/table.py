"""A table of paths or texts with labels: train.csv and val.csv, one CSV, TSV or JSONL, or the file itself.

A header names the columns (path, image, audio, file or filename, or text; label, labels, class or category);
without one the first two columns are taken. Several labels stand in one cell, between ``;`` or ``|``.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from indexer.datasets.base import Dataset, Layout, Sample, check_samples, pick_split, split_names
from indexer.datasets.names import Files, bare, composed
from indexer.datasets.table_file import EXPECTED, Row, Table, is_table, read_table
from indexer.datasets.whole import ClassLabels, classes_of_names, is_split_name
from retrieval.errors import DatasetError
from retrieval.store.paths import real_path

__all__ = ["LAYOUT", "is_table"]


def find(path: Path) -> Path | None:
    """``path`` where it is a table, or a folder with tables of inputs; or None."""
    return path if _tables(path) else None


def load(root: Path, split: str | None) -> Dataset:
    """The samples of a split's table, in its order; classes are those of the tables of all splits.

    Raises DatasetError, naming the line, for a missing column, an empty path or label, a file that is named
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
    kind = table.kind or "image"
    samples = _texts(table, rows) if table.holds_texts else _files(table, rows)
    columns = {name: column for column, name in enumerate(classes.names)}
    labelled = [
        Sample(made.id, made.path, _labels(row, columns, where=f"{table.path}, line {row.line}"), made.text)
        for row, made in zip(rows, samples, strict=True)
    ]
    lost = [row for row, made in zip(rows, samples, strict=True) if not made.path.is_file()]
    if rows and len(lost) == len(rows) and table.kind is None:
        raise DatasetError(
            f"{table.path}: expected {EXPECTED}; line {rows[0].line} begins with {rows[0].entry[:40]!r}, "
            "which is no file; name the columns in the first line"
        )
    if lost:
        notes.append(
            f"{len(lost)} of {len(rows)} files that {table.path} names are missing, "
            f"the first in line {lost[0].line}: {lost[0].entry}"
        )
    return Dataset(
        name=real_path(folder).name,
        format="table",
        root=folder,
        split=chosen,
        samples=check_samples(labelled, where=table.path),
        classes=classes,
        notes=tuple(notes),
        whole=True,
        kind=kind,
    )


@dataclass(frozen=True)
class _Input:
    """What a row stands for: a file, or a text in the table."""

    id: str
    path: Path
    text: str | None = None


def _texts(table: Table, rows: list[Row]) -> list[_Input]:
    """The texts of a table; each is called by the line in which it begins."""
    return [_Input(f"{table.path.stem}:{row.line}", table.path, row.entry) for row in rows]


def _files(table: Table, rows: list[Row]) -> list[_Input]:
    """The files that a table names; called by their names, with the ending where that tells two apart."""
    count = Counter(bare(row.entry) for row in rows)
    made = []
    for row, path in zip(rows, _find_files(table.path, rows), strict=True):
        entry = composed(row.entry).removeprefix("./")
        made.append(_Input(entry if count[bare(row.entry)] > 1 else bare(entry), path))
    return made


def _labels(row: Row, columns: dict[str, int], *, where: str) -> ClassLabels:
    labelled = sorted((columns[label], label) for label in row.labels)
    return ClassLabels(tuple(column for column, _ in labelled), where, tuple(name for _, name in labelled))


def splits(root: Path) -> list[str]:
    """The names of the splits, sorted; empty where there are none."""
    return split_names(_by_split(root))


def _by_split(root: Path) -> dict[str, Table]:
    """The tables of a root by the names of their splits; the name is empty where one table is all."""
    tables = _tables(root)
    several = root.is_dir() and len(tables) > 1
    stems = [table.path.stem for table in tables]
    return {
        stem if several or is_split_name(stem) else "": table
        for stem, table in zip(stems, tables, strict=True)
    }


def _tables(root: Path) -> list[Table]:
    """The tables of a root: itself, those called as splits, or all that name inputs; each split once."""
    if root.is_file():
        return [read_table(root)]
    paths = sorted(path for path in root.glob("[!.]*") if is_table(path))
    named = [path for path in paths if is_split_name(path.stem)]
    tables = [read_table(path) for path in named]
    if not any(table.kind or table.problem for table in tables):
        tables = [table for path in paths if (table := read_table(path)).kind]
    twins = [stem for stem, count in Counter(table.path.stem for table in tables).items() if count > 1]
    if twins:
        raise DatasetError(
            f"{root} has two tables called {twins[0]}, with different endings; rename or remove one of them"
        )
    return tables


def _beside(root: Path, tables: dict[str, Table]) -> list[Table]:
    """The tables whose classes count: of all splits, also where the path is that of one split's table."""
    if root.is_file() and is_split_name(root.stem):
        return [table for table in _tables(root.parent) if is_split_name(table.path.stem)]
    return list(tables.values())


def _find_files(source: Path, rows: list[Row]) -> list[Path]:
    """The file of every row, or where it would be; DatasetError where two rows mean the same one."""
    places = [source.parent, source.parent / "images", source.parent / source.stem]
    files = [Files(place) for place in places if place.is_dir()]
    lines: dict[Path, int] = {}
    found = []
    for row in rows:
        image = _find_file(row.entry, places, files)
        before = lines.setdefault(image, row.line)
        if before != row.line:
            raise DatasetError(
                f"{source}, line {row.line}: {row.entry} is named in line {before} already; "
                "remove one, or write several labels as a;b in one line"
            )
        found.append(image)
    return found


def _find_file(entry: str, places: list[Path], files: list[Files]) -> Path:
    name = composed(entry).removeprefix("./")
    exact = next((place / name for place in places if (place / name).is_file()), None)
    if exact is not None:
        return exact
    loose = (place.find(name) for place in files)
    return next((path for path in loose if path is not None), places[0] / name)


LAYOUT = Layout(
    "table",
    "train.csv, val.csv and so on, or one .csv, .tsv or .jsonl, of paths (or texts) and labels, for images, "
    "texts and recordings that have a class as a whole",
    find,
    load,
    splits,
)
