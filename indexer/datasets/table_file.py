"""One table of inputs and labels: CSV, TSV, or JSON lines."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from indexer.audio.formats import AUDIO_SUFFIXES
from indexer.datasets.base import read_text
from indexer.images.formats import IMAGE_SUFFIXES
from indexer.kinds import Kind
from indexer.texts.formats import TEXT_SUFFIXES
from retrieval.errors import DatasetError
from retrieval.json_text import parse_json

#: Letters of a cell, at most.
_LARGEST_CELL = 1 << 30

ENDINGS = (".csv", ".tsv", ".jsonl", ".ndjson")
_PATHS = ("path", "image", "file", "filename", "audio", "recording")
_LABELS = ("label", "labels", "class", "category", "intent")
_TEXTS = ("text", "texts", "sentence", "utterance", "query", "document")
EXPECTED = (
    f"a column of paths ({', '.join(_PATHS)}) or of texts ({', '.join(_TEXTS)}), and one of labels "
    f"({', '.join(_LABELS)})"
)
#: Kinds by the ending of an entry.
_KINDS: tuple[tuple[frozenset[str], Kind], ...] = (
    (IMAGE_SUFFIXES, "image"),
    (AUDIO_SUFFIXES, "audio"),
    (TEXT_SUFFIXES, "text"),
)


@dataclass(frozen=True)
class Row:
    """A line of a table: a path as it is written there, or a text, and its labels."""

    line: int
    entry: str
    labels: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """What lies in a file, as cells, and which columns count."""

    path: Path
    rows: tuple[tuple[int, tuple[str, ...]], ...]  #: line number from 1 and cells, the header left off
    header: tuple[str, ...]  #: lower case; empty where there is none
    problem: str  #: what is wrong with the header, or nothing

    @property
    def kind(self) -> Kind | None:
        """What its rows are, by its header and its first entry; None where it is no table of inputs."""
        if self.problem:
            return None
        if self.holds_texts:
            return "text"
        if not self.rows:
            return "image" if set(self.header) & set(_PATHS) else None
        kind = _kind_of(self.rows[0][1][_column(self.header, _PATHS, 0)])
        return kind or ("image" if set(self.header) & set(_PATHS) else None)

    @property
    def holds_texts(self) -> bool:
        """Whether the texts themselves stand in it, and no paths."""
        header = set(self.header)
        return bool(header & set(_TEXTS) and header & set(_LABELS) and not header & set(_PATHS))

    def read(self) -> list[Row]:
        """The rows; DatasetError with the line for a bad one, or for a bad header."""
        if self.problem:
            raise DatasetError(self.problem)
        names = _TEXTS if self.holds_texts else _PATHS
        place, label = (_column(self.header, known, i) for i, known in enumerate((names, _LABELS)))
        return [self._row(line, cells, place, label) for line, cells in self.rows]

    def texts(self) -> list[tuple[int, str]]:
        """(line, text) of every row, labelled or not; DatasetError without a column of texts."""
        if not set(self.header) & set(_TEXTS):
            raise DatasetError(f"{self.path}: expected a column of texts ({', '.join(_TEXTS)}); name it so")
        place = _column(self.header, _TEXTS, 0)
        return [(line, cells[place] if place < len(cells) else "") for line, cells in self.rows]

    def _row(self, line: int, cells: tuple[str, ...], place: int, label: int) -> Row:
        where = f"{self.path}, line {line}"
        what = "text" if self.holds_texts else "path"
        if len(cells) <= max(place, label):
            raise DatasetError(
                f"{where}: expected a {what} and a label, found {len(cells)} column{'s'[: len(cells) > 1]}; "
                "separate the columns as in the first line, and quote what holds the separator"
            )
        entry = cells[place].strip()
        if not entry and what == "path":  # an empty text is said by whoever reads it, and may be skipped
            raise DatasetError(f"{where}: the path is empty; give it or remove the line")
        words = (word.strip() for word in re.split(r"[;|]", cells[label]))
        labels = tuple(dict.fromkeys(word for word in words if word))
        if not labels:
            raise DatasetError(f"{where}: the label of {entry[:60]} is empty; give it or remove the line")
        return Row(line, entry, labels)


def is_table(path: Path) -> bool:
    """Whether this is a file whose ending is that of a table."""
    return path.suffix.lower() in ENDINGS and path.is_file()


def read_table(path: Path) -> Table:
    """The table in a file; what is wrong with it is its ``problem``."""
    try:
        text = read_text(path)
        if path.suffix.lower() in (".jsonl", ".ndjson"):
            return _read_lines(text, path)
        rows = list(_cells(text, path))
    except (OSError, UnicodeDecodeError) as problem:
        return Table(path, (), (), f"{path} cannot be read as text ({problem}); save it as CSV in UTF-8")
    except csv.Error as problem:
        return Table(path, (), (), f"{path} is no valid CSV ({problem}); check the quotes")
    if not rows:
        return Table(path, (), (), f"{path} is empty; expected {EXPECTED}")
    line, first = rows[0]
    words = tuple(cell.strip().lower() for cell in first)
    if not _is_header(rows):
        few = f"{path}, line {line}: found 1 column, expected {EXPECTED}" if len(words) < 2 else ""
        return Table(path, tuple(rows), (), few)
    return Table(path, tuple(rows[1:]), words, _header_problem(f"{path}, line {line}", words))


def _read_lines(text: str, path: Path) -> Table:
    """JSON lines: an object a line, whose keys are columns; a list of labels may stand for one."""
    found: list[tuple[int, dict[str, str]]] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            data = parse_json(line)
        except ValueError as problem:
            return Table(path, (), (), f"{path}, line {number} is no JSON ({problem}); one object a line")
        if not isinstance(data, dict):
            return Table(
                path,
                (),
                (),
                f'{path}, line {number}: expected an object such as {{"text": ..., "label": ...}}',
            )
        found.append((number, {str(key).lower(): _cell(value) for key, value in data.items()}))
    if not found:
        return Table(path, (), (), f"{path} is empty; expected {EXPECTED}")
    header = tuple(dict.fromkeys(key for _, data in found for key in data))
    rows = tuple((number, tuple(data.get(key, "") for key in header)) for number, data in found)
    return Table(path, rows, header, _header_problem(str(path), header))


def _cell(value: object) -> str:
    if isinstance(value, list):
        return "|".join(map(_cell, value))
    return "" if value is None else str(value)


def _header_problem(where: str, header: tuple[str, ...]) -> str:
    has_path, has_text, has_label = (bool(set(header) & set(names)) for names in (_PATHS, _TEXTS, _LABELS))
    if (has_path or has_text) and has_label:
        return ""
    if not (has_path or has_text or has_label) and len(header) > 1:
        return ""  # columns of other names: the first two count
    return f"{where}: expected {EXPECTED}, found {', '.join(header[:8])}; name the columns so"


def _is_header(rows: list[tuple[int, tuple[str, ...]]]) -> bool:
    """Whether the first row names columns: by known words, or by a file that only the second names."""
    first = [cell.strip().lower() for cell in rows[0][1]]
    if _kind_of(first[0]):
        return False
    if set(first) & {*_PATHS, *_LABELS, *_TEXTS}:
        return True
    return len(rows) > 1 and _kind_of(rows[1][1][0]) is not None


def _kind_of(cell: str) -> Kind | None:
    """What a file of that name is."""
    suffix = Path(cell.strip()[-64:]).suffix.lower()
    return next((kind for endings, kind in _KINDS if suffix in endings), None)


def _column(header: tuple[str, ...], names: tuple[str, ...], usual: int) -> int:
    return next((header.index(name) for name in names if name in header), usual)


def _cells(text: str, path: Path) -> Iterator[tuple[int, tuple[str, ...]]]:
    """The rows of a table that are not blank, each with the number of its first line."""
    first = next((line for line in text.splitlines() if line.strip()), "")
    between = "\t" if path.suffix.lower() == ".tsv" else next((mark for mark in ",;\t" if mark in first), ",")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=between, strict=True)
    before = csv.field_size_limit(_LARGEST_CELL)  # a text may be long
    start = 1
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield start, tuple(cells)
            start = reader.line_num + 1
    finally:
        csv.field_size_limit(before)
