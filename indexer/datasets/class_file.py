"""``classes.json``: the classes of a plain folder, written by hand.

Two forms, and colours may be left out of both (a colour map gives them then):

    {"classes": [{"id": 0, "name": "sky", "color": [128, 128, 128]}, ...], "ignore": [255]}
    {"names": ["sky", "road"], "colors": [[128, 128, 128], [128, 64, 128]], "ignore": 255}

``ignore`` is an id, or a list of ids and of colours (for RGB masks) that carry no label; 255 when left out.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from indexer.datasets.base import nearest
from indexer.datasets.masks import Color, ColorCode, color_of_id
from retrieval.classes import ClassInfo, ClassMap
from retrieval.errors import DatasetError

#: The id that carries no label unless ``ignore`` says otherwise.
USUAL_IGNORE = 255


def read_class_file(path: Path) -> tuple[ClassMap, ColorCode | None]:
    """The classes of a ``classes.json``, and what colours mean where it gives every class one.

    Raises DatasetError, with the problem, for a file that is not as described above.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as problem:
        raise DatasetError(f"{path} is not JSON: {problem}") from problem
    except (OSError, UnicodeDecodeError) as problem:
        raise DatasetError(f"{path} cannot be read: {problem}") from problem
    return _Reader(path).read(data)


class _Reader:
    """Reads the parsed file, naming it in every complaint."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def _wrong(self, problem: str) -> DatasetError:
        return DatasetError(f"{self._path}: {problem}")

    def read(self, data: Any) -> tuple[ClassMap, ColorCode | None]:
        if not isinstance(data, dict):
            raise self._wrong('expected an object with "classes" or "names"')
        if ("classes" in data) == ("names" in data):
            raise self._wrong('expected either "classes" or "names"')
        known = {"classes", "ignore"} if "classes" in data else {"names", "colors", "ignore"}
        self._check_keys(data, known, "the file")
        infos, colored = self._long_form(data["classes"]) if "classes" in data else self._short_form(data)
        self._check_distinct(infos)
        ids, colors = self._ignore(data, infos)
        classes = ClassMap(infos, ignore=ids)
        if not colored:
            return classes, None
        return classes, ColorCode.of_classes(classes, ignore=colors)

    def _check_keys(self, data: dict[str, Any], known: set[str], where: str) -> None:
        for key in data:
            if key not in known:
                hint = nearest(key, known) or f"; known are {', '.join(sorted(known))}"
                raise self._wrong(f"{where} has the unknown key {key!r}{hint}")

    def _long_form(self, entries: Any) -> tuple[tuple[ClassInfo, ...], bool]:
        infos = []
        for number, entry in enumerate(self._list(entries, '"classes"')):
            where = f"class number {number}"
            if not isinstance(entry, dict) or "id" not in entry or "name" not in entry:
                raise self._wrong(f'{where} must be an object with "id", "name" and, if you like, "color"')
            self._check_keys(entry, {"id", "name", "color"}, where)
            id = self._id(entry["id"], where)
            color = self._color(entry["color"], where) if "color" in entry else color_of_id(id)
            infos.append(ClassInfo(id, self._name(entry["name"], where), color))
        return tuple(infos), all("color" in entry for entry in entries)

    def _short_form(self, data: dict[str, Any]) -> tuple[tuple[ClassInfo, ...], bool]:
        names = self._list(data["names"], '"names"')
        colors = [color_of_id(id) for id in range(len(names))]
        if "colors" in data:
            given = self._list(data["colors"], '"colors"')
            if len(given) != len(names):
                raise self._wrong(f"{len(names)} names but {len(given)} colors; give each class one color")
            colors = [self._color(color, f"color number {id}") for id, color in enumerate(given)]
        infos = tuple(
            ClassInfo(id, self._name(name, f"name number {id}"), color)
            for id, (name, color) in enumerate(zip(names, colors, strict=True))
        )
        return infos, "colors" in data

    def _ignore(
        self, data: dict[str, Any], infos: tuple[ClassInfo, ...]
    ) -> tuple[tuple[int, ...], list[Color]]:
        class_ids = {info.id for info in infos}
        if "ignore" not in data:
            return (() if USUAL_IGNORE in class_ids else (USUAL_IGNORE,)), []
        given = data["ignore"] if isinstance(data["ignore"], list) else [data["ignore"]]
        ids = [self._id(entry, '"ignore"') for entry in given if not isinstance(entry, list)]
        colors = [self._color(entry, '"ignore"') for entry in given if isinstance(entry, list)]
        both = class_ids.intersection(ids)
        if both:
            raise self._wrong(f"id {min(both)} is a class and also under ignore; keep one of the two")
        return tuple(dict.fromkeys(ids)), colors

    def _check_distinct(self, infos: tuple[ClassInfo, ...]) -> None:
        by_id: dict[int, str] = {}
        names: set[str] = set()
        for info in infos:
            if info.id in by_id:
                raise self._wrong(f"the classes {by_id[info.id]!r} and {info.name!r} share the id {info.id}")
            if info.name in names:
                raise self._wrong(f"two classes have the name {info.name!r}")
            by_id[info.id] = info.name
            names.add(info.name)

    def _list(self, value: Any, what: str) -> list[Any]:
        if not isinstance(value, list) or not value:
            raise self._wrong(f"{what} must be a list with at least one entry")
        return value

    def _id(self, value: Any, where: str) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 65535:
            raise self._wrong(f"{where} has the id {value!r}; ids are whole numbers 0..65535")
        return value

    def _name(self, value: Any, where: str) -> str:
        if not isinstance(value, str) or not value.strip():
            raise self._wrong(f"{where} has the name {value!r}; names are text that is not empty")
        return value.strip()

    def _color(self, value: Any, where: str) -> Color:
        numbers = value if isinstance(value, list) else []
        if len(numbers) != 3 or any(type(n) is not int or not 0 <= n <= 255 for n in numbers):
            raise self._wrong(f"{where} has the color {value!r}; colors are [red, green, blue], each 0..255")
        return numbers[0], numbers[1], numbers[2]
