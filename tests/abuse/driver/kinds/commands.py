"""Settings with values that do not fit, and command lines that nobody would write."""

from __future__ import annotations

import json
import re
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import typer
from pydantic import BaseModel

from indexer.recipe import Recipe
from segmentation.cli import app

from .. import wild
from ..case import Case


@cache
def setting_keys() -> tuple[str, ...]:
    """Every dotted key of a recipe."""
    return tuple(_keys(Recipe))


def _keys(model: type[BaseModel], prefix: str = "") -> list[str]:
    found: list[str] = []
    for name, field in model.model_fields.items():
        found.append(prefix + name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found += _keys(field.annotation, f"{prefix}{name}.")
    return found


#: Values that some settings take, so that what comes behind the first check is reached too.
KNOWN = (
    *(
        "1",
        "2",
        "3",
        "4",
        "0.5",
        "0.1",
        "true",
        "false",
        "null",
        "[64,64]",
        "[32,96]",
        "[128,64]",
        "[7]",
        "[0,1]",
        "none",
    ),
    *(
        "kl",
        "[kl,infonce]",
        "infonce",
        "dino",
        "embeddings",
        "fungi",
        "patch",
        "image",
        "exact",
        "faiss",
        "qdrant",
    ),
    *(
        "class",
        "whiten",
        "factored",
        "dense",
        "random",
        "test_vit",
        "float32",
        "bfloat16",
        "auto",
        "guided",
        "mean",
    ),
    *(
        "pad",
        "stretch",
        "crop",
        "hummingbird",
        "mycelia",
        "flat",
        "ivf",
        "hnsw",
        "pq",
        "sq8",
        "100",
        "16",
        "[0.5,1.0]",
        "memory",
    ),
)
#: What would look for files or servers elsewhere: only names of this machine stand there.
_ELSEWHERE = (
    "index.qdrant.url",
    "index.qdrant.collection",
    "index.engine",
    "backbone.weights",
    "backbone.model",
)
#: More than a test's machine has, which the ranges allow.
_HEAVY = {"bank.epochs": 3, "image.shifts": 3, "bank.shifts": 3, "objective.dino.views": 4}


def _setting(case: Case) -> str:
    random = case.random
    key = random.choice(setting_keys())
    if key in _ELSEWHERE:
        word = random.choice(
            [
                "exact",
                "faiss",
                "random",
                "test_vit",
                "",
                "x",
                "../x",
                "http://127.0.0.1:9",
                "torch:/x",
                "[]",
                "3",
            ]
        )
        return f"{key}={word}"
    if random.random() < 0.5:
        return f"{key}={random.choice(KNOWN)}"
    if key in _HEAVY and random.random() < 0.5:
        return f"{key}={_HEAVY[key]}"
    value = wild.value(random)
    try:
        text = value if isinstance(value, str) else json.dumps(value)
    except ValueError:
        text = "9" * 5000
    return f"{key}={text}"


def _fitting(case: Case, key: str) -> str:
    """A value of a setting that fits it by its type, most of the time."""
    random, model = case.random, Recipe
    *sections, leaf = key.split(".")
    for section in sections:
        model = model.model_fields[section].annotation  # type: ignore[assignment]
    kind = str(model.model_fields[leaf].annotation)
    words = re.findall(r"'([^']*)'", kind) if "Literal" in kind else []
    words += ["true", "false"] if "bool" in kind else []
    words += ["1", "2", "3", "4", "16"] if "int" in kind and "tuple" not in kind else []
    words += ["0.1", "0.5", "1", "0.02"] if "float" in kind and "tuple" not in kind else []
    words += ["[64,64]", "[32,96]", "[0.5,1.0]"] if "tuple" in kind else []
    return random.choice(words or KNOWN) if random.random() < 0.9 else random.choice(KNOWN)


def override(case: Case) -> None:
    """Settings on a command line, some of which may fit."""
    random = case.random
    given = [_setting(case) for _ in range(random.choice([1, 1, 2, 3]))]
    if random.random() < 0.1:
        given.append(wild.text(random) or "=")
    what = random.randrange(5)
    if what < 2:
        case.run(
            "index", "build", case.path("data"), "--config", case.path("tiny.yaml"), "--out", case.out, *given
        )
    elif what == 2:
        index = case.path(random.choice(["i.index", "scaled.index", "faiss.index"]))
        case.run("segment", index, case.path("photo.png"), "--out", case.out, *given)
    elif what == 3:
        case.run("index", "convert", case.path("i.index"), "--to", "faiss", "--out", case.out, *given)
    else:
        case.run("classify", case.path("whole.index"), case.path("photo.png"), *given)


def recipe_values(case: Case) -> None:
    """Settings of a query, or of its own place, that fit by themselves and perhaps not together."""
    random = case.random
    keys = [
        key
        for key in setting_keys()
        if key.startswith(("transfer.", "image.", "rerank.", "features.", "bank."))
    ]
    given = [f"{key}={_fitting(case, key)}" for key in random.sample(keys, random.choice([1, 2, 3, 4]))]
    index = case.path(random.choice(["i.index", "scaled.index", "faiss.index"]))
    if random.random() < 0.4:
        case.run(
            "index", "build", case.path("data"), "--config", case.path("tiny.yaml"), "--out", case.out, *given
        )
    else:
        case.run("segment", index, case.path("photo.png"), "--out", case.out, *given)


#: What downloads, listens, or takes minutes whatever it is given.
_NOT_HERE = ("demo", "serve", "tune", "install-completion")
_PATHS = (
    "data",
    "i.index",
    "whole.index",
    "photo.png",
    "colors",
    "tiny.yaml",
    "volume.tif",
    "five.index",
    "clip.mp4",
    "not-there",
)


@cache
def _commands() -> dict[str, Any]:
    root = typer.main.get_command(app)
    found: dict[str, Any] = {}

    def walk(name: str, command: Any) -> None:
        if hasattr(command, "commands"):
            for word, inner in command.commands.items():
                walk(f"{name} {word}".strip(), inner)
        elif name not in _NOT_HERE:
            found[name] = command

    walk("", root)
    return found


def command_line(case: Case) -> None:
    """A command with options, some of them missing, doubled, unknown, or with values of something else."""
    random = case.random
    name = random.choice([*_commands(), "serve", "nonsense", ""])
    if name in ("serve", "nonsense", ""):
        words: list[object] = [*name.split(), *(wild.text(random) for _ in range(random.randrange(3)))]
        if name == "serve":  # of nothing that could be served
            words = [
                "serve",
                case.path("whole.index"),
                "--host",
                "127.0.0.1",
                "--port",
                str(wild.number(random))[:50],
            ]
        case.run(*words)
        return
    command, words = _commands()[name], [*name.split()]
    taken = {"--collection", "--url", "--shard"}
    for parameter in command.params:
        many = 1 if parameter.nargs == 1 else random.randrange(3)
        flags = [flag for flag in getattr(parameter, "opts", []) if flag.startswith("--")]
        if not flags:
            words += [_own(case) for _ in range(many) if random.random() < 0.95]
        elif flags[0] in ("--out", "--report", "--picture"):
            ending = "" if flags[0] == "--out" else "/r.png"
            words += [flags[0], f"{case.out}{ending}"] if random.random() < 0.9 else []
        elif flags[0] == "--help" or flags[0] in taken or random.random() < 0.7:
            continue
        elif getattr(parameter, "is_flag", False):
            words.append(flags[0])
        else:
            words += [flags[0], _option_value(case)]
    if random.random() < 0.1:
        words.insert(
            random.randrange(len(words) + 1), random.choice(["--nonsense", "-", "--", "-o", "--out=", "x=y"])
        )
    case.free.append(case.place / "cwd")  # --json FILE and others may name a file at hand
    case.run(*words)


def _own(case: Case) -> Path:
    """A copy of one of the things, which a command may change."""
    name = case.random.choice(_PATHS)
    source, target = case.path(name), case.inside / name
    if source.is_dir() and not target.exists():
        shutil.copytree(source, target)
    elif source.exists() and not target.exists():
        shutil.copy(source, target)
    if name in ("data", "i.index", "whole.index", "five.index", "colors"):
        case.free.append(target)
    return target


def _option_value(case: Case) -> str:
    random = case.random
    what = random.randrange(4)
    if what == 0:
        return str(_own(case))
    if what == 1:
        return random.choice(KNOWN)
    try:
        text = str(wild.number(random)) if what == 2 else wild.text(random)
    except ValueError:
        text = "9" * 5000
    # names of files to write: none that leads anywhere but into the folder at hand
    return text.replace("/", "_").replace("..", "_").replace("\0", "_").replace("~", "_")
