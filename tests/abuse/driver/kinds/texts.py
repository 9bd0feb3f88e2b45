"""JSON of classes, of an index, of labelling tools, and recipes in YAML: damaged, or of wrong values."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import yaml

from .. import wild
from ..case import Case

_CLASSES = {
    "classes": [
        {"id": 0, "name": "dark", "color": [1, 2, 3], "description": "x"},
        {"id": 1, "name": "bright", "color": "#ff0000", "of": [3, 4]},
    ],
    "ignore": [255],
    "name": "x",
}
_META = {"labels": ["dark", "bright"], "segmentation_colors": [[1, 2, 3], [4, 5, 6]], "label_map": {"0": "a"}}


def json_file(case: Case) -> None:
    """A file of classes beside a data set, names for ``--map``, or a file of an index, changed."""
    random, what = case.random, case.random.randrange(6)
    if what < 2:
        data = Path(shutil.copytree(case.path("data"), case.inside / "data"))
        name = random.choice(
            ["classes.json", "classes.json", "dataset_meta.json", "class_names.txt", "classes.txt"]
        )
        if name != "classes.json" and random.random() < 0.7:
            (data / "classes.json").unlink()
        sample = _META if name == "dataset_meta.json" else _CLASSES
        (data / name).write_bytes(_changed(case, sample) if name.endswith("n") else _names(case))
        words = random.choice([("inspect",), ("classes",), ("index", "build")])
        more = ("--config", case.path("tiny.yaml"), "--out", case.out) if words[-1] == "build" else ()
        case.run(*words, data, *more)
    elif what == 2:
        index = Path(shutil.copytree(case.path("i.index"), case.inside / "i.index"))
        file = case.inside / "names.json"
        file.write_bytes(_changed(case, {"dark": "night", "bright": "day"}))
        case.free.append(index)
        try:
            case.run("index", "relabel", index, "--map", file)
        finally:
            _verified(case, index)
    else:
        index = Path(
            shutil.copytree(
                case.path(random.choice(["i.index", "whole.index", "faiss.index"])), case.inside / "i"
            )
        )
        file = random.choice(sorted(path for path in index.rglob("*.json*") if path.is_file()))
        file.write_bytes(_changed_file(case, file))
        words = random.choice(
            [("index", "info"), ("index", "verify"), ("segment",), ("index", "info", "--json")]
        )
        more = (case.path("photo.png"), "--out", case.out) if words == ("segment",) else ()
        case.run(*words, index, *more)


def tool_file(case: Case) -> None:
    """A file of a labelling tool, changed, as labels of a build or of a look."""
    random = case.random
    data = Path(shutil.copytree(case.path("tools"), case.inside / "data"))
    for mask in data.glob("*.png"):
        mask.unlink()
    files = sorted(path for path in data.rglob("*") if path.suffix in (".json", ".xml", ".txt", ".yaml"))
    file = random.choice(files)
    kept = {"coco.json": "coco", "annotations.xml": "cvat"}.get(file.name)
    file.write_bytes(_changed_file(case, file))
    for other in files:  # one format alone, for auto
        if other != file and other.suffix != file.suffix and random.random() < 0.8:
            other.unlink()
    format = random.choice(["auto", kept or "auto", "coco", "labelme", "cvat", "label-studio", "yolo"])
    options = ("--format", format, *(("--images", "images") if random.random() < 0.5 else ()))
    if random.random() < 0.5:
        case.run("inspect", data, *options)
    else:
        case.run("index", "build", data, "--config", case.path("tiny.yaml"), "--out", case.out, *options)


def yaml_recipe(case: Case) -> None:
    """A recipe's file, damaged."""
    random = case.random
    content = case.path("tiny.yaml").read_bytes()
    what = random.randrange(5)
    if what == 0:
        content = wild.changed_text(random, content)
    elif what == 1:
        content = random.choice(_bad_yaml()).encode(errors="surrogatepass")
    elif what == 2:
        content += random.choice(_bad_yaml()).encode(errors="surrogatepass")
    else:
        content = yaml.safe_dump(_plain(wild.changed_json(random, yaml.safe_load(content)))).encode(
            errors="replace"
        )
    (case.inside / "r.yaml").write_bytes(content)
    words = (
        ("index", "build", case.path("data"), "--out", case.out)
        if random.random() < 0.7
        else ("inspect", case.path("data"))
    )
    case.run(*words, "--config", case.inside / "r.yaml")


def _plain(data: object) -> object:
    """Without what this Python cannot write down."""
    if isinstance(data, dict):
        return {_plain(key): _plain(value) for key, value in data.items()}
    if isinstance(data, list):
        return [_plain(value) for value in data]
    return 10**40 if isinstance(data, int) and abs(data) > 10**100 else data


def _bad_yaml() -> list[str]:
    bomb = "\n".join(
        f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]" for a, b in zip("abcdefg", "bcdefgh", strict=True)
    )
    return [
        *(
            "seed: 2024-01-01\n",
            "seed: 2024-99-99\n",
            "seed: !!python/name:os.system\n",
            "seed: !!timestamp x\n",
        ),
        *(
            "seed: !!binary aGk=\n",
            "seed: !!set {a}\n",
            "seed: !!omap [a: 1]\n",
            f"a: &a [x,x]\n{bomb}\n",
            "&a [*a]\n",
        ),
        *("- " * 5000, "{a: " * 5000, "[" * 50_000, "seed: " + "9" * 5000 + "\n", "? [1]\n: 2\n", "<<: *x\n"),
        *(
            "--- \n---\n",
            "%YAML 9.9\n",
            "seed: 1\nseed: 2\n",
            "image: {size: [1,2}\n",
            "\tseed: 1\n",
            "seed: \udcff\n",
        ),
        *(
            "transfer: 5\n",
            "transfer: null\n",
            "transfer: []\n",
            "index: exact\n",
            "seed: 0o17\n",
            "seed: 1:30:00\n",
        ),
        *(
            "a" * 2_000_000,
            "seed: |\n  x\n",
            "!!python/object/apply:os.system [x]\n",
            "null: 3\n",
            "1: 2\n",
            ".nan: 1\n",
        ),
    ]


def _names(case: Case) -> bytes:
    sample = b"0 dark\n1 bright\n"
    if case.random.random() < 0.3:
        return "\n".join(wild.text(case.random) for _ in range(4)).encode(errors="replace")
    return wild.changed_text(case.random, sample)


def _changed(case: Case, data: object) -> bytes:
    if case.random.random() < 0.3:
        return wild.changed_text(case.random, json.dumps(data).encode())
    return wild.dumped(wild.changed_json(case.random, data))


def _changed_file(case: Case, file: Path) -> bytes:
    content = file.read_bytes()
    if case.random.random() < 0.6 and file.suffix == ".json":
        return wild.dumped(wild.changed_json(case.random, json.loads(content)))
    return wild.changed_text(case.random, content)


def _verified(case: Case, index: Path) -> None:
    from .memory import verified

    verified(index)
