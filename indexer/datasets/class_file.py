"""``classes.json``: the classes of a data set, written by hand or by a labelling tool.

Two forms of our own, and colours may be left out of both (a colour map gives them then):

    {"classes": [{"id": 0, "name": "sky", "color": [128, 128, 128]}, ...], "ignore": [255]}
    {"names": ["sky", "road"], "colors": [[128, 128, 128], [128, 64, 128]], "ignore": 255}

``ignore`` is an id, or a list of ids and of colours (for RGB masks) that carry no label; 255 when left out.
Also read are a list of names (``["sky", "road"]``), names with their colours (``{"road": [250, 50, 83]}``)
and CVAT's labels (``[{"name": "road", "color": "#fa3253", "attributes": []}]``). The last two number their
classes in their order, after a background, black, where neither that name nor that colour is among them.
A colour is ``[red, green, blue]``, each 0..255, or ``"#rrggbb"``.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from indexer.datasets.base import nearest
from indexer.datasets.masks import Color, ColorCode, color_of_id
from retrieval.classes import ClassInfo, ClassMap
from retrieval.errors import DatasetError
from retrieval.json_text import ParseError, parse_json, read_limited

CLASS_FILE = "classes.json"

#: The id that carries no label unless ``ignore`` says otherwise.
USUAL_IGNORE = 255

BACKGROUND = "background"
#: Classes of a data set: masks have 16 bits at most.
MOST_CLASSES = 65536
#: Bytes of a file, and faults of it that a message names.
_MOST_BYTES, _MOST_FAULTS = 16 * 2**20, 8
_EXAMPLE = (
    '{"classes": [{"id": 0, "name": "sky", "color": [70, 130, 180]}, '
    '{"id": 1, "name": "road", "color": [128, 64, 128]}], "ignore": [255]}'
)
_BLACK: Color = (0, 0, 0)


def read_class_file(path: Path) -> tuple[ClassMap, ColorCode | None]:
    """The classes of a ``classes.json``, and what colours mean where it gives every class one.

    Raises DatasetError, with all the problems and an example, for a file that is not as described above.
    """
    try:
        data = parse_json(read_limited(path, most=_MOST_BYTES))
    except ParseError as problem:
        raise DatasetError(f"{path} is not JSON: {problem}; a whole example: {_EXAMPLE}") from problem
    except OSError as problem:
        raise DatasetError(f"{path} cannot be read: {problem}") from problem
    return _Reader(path).read(data)


def says_ignore(path: Path) -> bool:
    """Whether a ``classes.json`` that could be read says which ids carry no label."""
    data = parse_json(read_limited(path, most=_MOST_BYTES))
    return isinstance(data, dict) and "ignore" in data


def number_classes(named: Sequence[tuple[str, Color]], *, add_background: bool) -> tuple[ClassInfo, ...]:
    """Classes numbered from 0 in their order, where wanted after a background that is not among them."""
    known = {name.strip("_").lower() for name, _ in named}
    if add_background and BACKGROUND not in known and _BLACK not in {color for _, color in named}:
        named = [(BACKGROUND, _BLACK), *named]
    return tuple(ClassInfo(id, name, color) for id, (name, color) in enumerate(named))


class _Reader:
    """Reads the parsed file and collects what is wrong with it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._faults: list[str] = []

    def read(self, data: Any) -> tuple[ClassMap, ColorCode | None]:
        infos, colored = self._classes(data)
        self._check_distinct(infos)
        ids, colors = self._ignore(data if isinstance(data, dict) else {}, infos)
        if self._faults:
            faults = list(dict.fromkeys(self._faults))
            more = len(faults) - _MOST_FAULTS
            said = "; ".join(faults[:_MOST_FAULTS]) + (f"; and {more:,} more" if more > 0 else "")
            raise DatasetError(f"{self._path}: {said}; a whole example: {_EXAMPLE}")
        classes = ClassMap(infos, ignore=ids)
        return classes, ColorCode.of_classes(classes, ignore=colors) if colored else None

    def _wrong(self, problem: str) -> None:
        self._faults.append(problem)

    def _classes(self, data: Any) -> tuple[tuple[ClassInfo, ...], bool]:
        """The classes, and whether each has a colour of its own."""
        if isinstance(data, list):
            return self._plain_list(data)
        if not isinstance(data, dict):
            self._wrong('expected an object with "classes" or "names"')
            return (), False
        if "classes" not in data and "names" not in data and _is_color_map(data):
            return self._color_map(data)
        if ("classes" in data) == ("names" in data):
            self._wrong('expected either "classes" or "names"')
            return (), False
        known = {"classes", "ignore"} if "classes" in data else {"names", "colors", "ignore"}
        self._check_keys(data, known, "the file")
        return self._long_form(data["classes"]) if "classes" in data else self._short_form(data)

    def _plain_list(self, data: list[Any]) -> tuple[tuple[ClassInfo, ...], bool]:
        if data and all(isinstance(entry, dict) for entry in data):
            if any("attributes" in entry or isinstance(entry.get("color"), str) for entry in data):
                return self._cvat(data)
            return self._long_form(data)
        if not data:
            self._wrong('expected an object with "classes" or "names", or a list of names; the list is empty')
            return (), False
        return self._short_form({"names": data})

    def _cvat(self, data: list[dict[str, Any]]) -> tuple[tuple[ClassInfo, ...], bool]:
        """CVAT's labels; their ids are those of its database."""
        named = []
        for number, entry in enumerate(data):
            where = f"label number {number}"
            color = self._color(entry.get("color", list(color_of_id(number + 1))), where)
            named.append((self._name(entry.get("name"), where), color))
        return number_classes(named, add_background=True), all("color" in entry for entry in data)

    def _color_map(self, data: dict[str, Any]) -> tuple[tuple[ClassInfo, ...], bool]:
        entries = ((name, color) for name, color in data.items() if name != "ignore")
        named = [(self._name(name, "a class"), self._color(color, repr(name))) for name, color in entries]
        return number_classes(named, add_background=True), True

    def _check_keys(self, data: dict[str, Any], known: set[str], where: str) -> None:
        for key in data:
            if key not in known:
                hint = nearest(key, known) or f"; known are {', '.join(sorted(known))}"
                self._wrong(f"{where} has the unknown key {key!r}{hint}")

    def _long_form(self, entries: Any) -> tuple[tuple[ClassInfo, ...], bool]:
        infos, colored = [], True
        for number, entry in enumerate(self._list(entries, '"classes"')):
            where = f"class number {number}"
            if not isinstance(entry, dict) or "id" not in entry or "name" not in entry:
                self._wrong(f'{where} must be an object with "id", "name" and, if you like, "color"')
                continue
            self._check_keys(entry, {"id", "name", "color"}, where)
            id = self._id(entry["id"], where)
            colored = colored and "color" in entry
            color = self._color(entry["color"], where) if "color" in entry else color_of_id(id)
            infos.append(ClassInfo(id, self._name(entry["name"], where), color))
        return tuple(infos), colored

    def _short_form(self, data: dict[str, Any]) -> tuple[tuple[ClassInfo, ...], bool]:
        names = self._list(data["names"], '"names"')
        colors = [color_of_id(id) for id in range(len(names))]
        if "colors" in data:
            given = self._list(data["colors"], '"colors"')
            if len(given) != len(names):
                self._wrong(f"{len(names)} names but {len(given)} colors, where each class has one color")
            chosen = [self._color(color, f"color number {id}") for id, color in enumerate(given)]
            colors = [*chosen, *colors[len(chosen) :]]
        infos = tuple(
            ClassInfo(id, self._name(name, f"name number {id}"), colors[id]) for id, name in enumerate(names)
        )
        return infos, "colors" in data

    def _ignore(
        self, data: dict[str, Any], infos: tuple[ClassInfo, ...]
    ) -> tuple[tuple[int, ...], list[Color]]:
        class_ids = {info.id for info in infos}
        if "ignore" not in data:
            return (() if USUAL_IGNORE in class_ids else (USUAL_IGNORE,)), []
        given = data["ignore"] if isinstance(data["ignore"], list) else [data["ignore"]]
        if len(given) == 3 and _is_color_map(data) and self._looks_like_color(given):
            given = [given]  # {"road": [250, 50, 83], "ignore": [255, 255, 255]}
        ids = [self._id(entry, '"ignore"') for entry in given if not _means_color(entry)]
        colors = [self._color(entry, '"ignore"') for entry in given if _means_color(entry)]
        both = class_ids.intersection(ids)
        if both and not self._faults:
            self._wrong(f"id {min(both)} is a class and also under ignore, keep one of the two")
        return tuple(dict.fromkeys(ids)), colors

    @staticmethod
    def _looks_like_color(given: list[Any]) -> bool:
        return all(type(number) is int and 0 <= number <= 255 for number in given) and len(set(given)) == 1

    def _check_distinct(self, infos: tuple[ClassInfo, ...]) -> None:
        by_id: dict[int, str] = {}
        names: set[str] = set()
        for info in infos:
            # -1 and no name stand for what was wrong already
            if info.id in by_id and info.id >= 0:
                self._wrong(f"the classes {by_id[info.id]!r} and {info.name!r} share the id {info.id}")
            if info.name in names and info.name:
                self._wrong(f"two classes have the name {info.name!r}")
            by_id[info.id] = info.name
            names.add(info.name)

    def _list(self, value: Any, what: str) -> list[Any]:
        if not isinstance(value, list) or not value:
            self._wrong(f"{what} must be a list with at least one entry")
            return []
        if len(value) > MOST_CLASSES:
            self._wrong(
                f"{what} has {len(value):,} entries, and a data set has at most {MOST_CLASSES:,} classes"
            )
            return []
        return value

    def _id(self, value: Any, where: str) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 65535:
            self._wrong(f"{where} has the id {reprlib.repr(value)}, but ids are whole numbers 0..65535")
            return -1
        return value

    def _name(self, value: Any, where: str) -> str:
        if not isinstance(value, str) or not value.strip():
            self._wrong(f"{where} has the name {reprlib.repr(value)}, but names are text that is not empty")
            return ""
        return value.strip()

    def _color(self, value: Any, where: str) -> Color:
        color = parse_color(value)
        if color is None:
            self._wrong(
                f"{where} has the color {reprlib.repr(value)}, but colors are [red, green, blue], "
                "each 0..255, or #rrggbb"
            )
            return _BLACK
        return color


def parse_color(value: Any) -> Color | None:
    """A colour written as ``[red, green, blue]`` or ``"#rrggbb"``; None for anything else."""
    if isinstance(value, str) and re.fullmatch(r"#[0-9a-fA-F]{6}", value.strip()):
        code = int(value.strip()[1:], 16)
        return code >> 16, code >> 8 & 255, code & 255
    numbers = value if isinstance(value, list) else []
    if len(numbers) != 3 or any(type(n) is not int or not 0 <= n <= 255 for n in numbers):
        return None
    return numbers[0], numbers[1], numbers[2]


def _means_color(entry: Any) -> bool:
    return isinstance(entry, list) or (isinstance(entry, str) and entry.startswith("#"))


def _is_color_map(data: dict[str, Any]) -> bool:
    """Whether an object is names with colours, so that most values look like colours."""
    named = {name: value for name, value in data.items() if name != "ignore"}
    return bool(named) and 2 * sum(_means_color(value) for value in named.values()) >= len(named)
