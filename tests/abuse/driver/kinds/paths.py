"""Paths that are no files, no folders, no texts, or somebody else's, where a command takes one."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ..case import Case

#: A command with places for paths: ``<name>`` stands for a thing that is there, ``>`` for one to write.
TEMPLATES: tuple[tuple[str, ...], ...] = (
    ("index", "build", "<data", "--config", "<tiny.yaml", "--out", ">i.index"),
    ("segment", "<i.index", "<photo.png", "--out", ">masks"),
    ("segment", "<i.index", "<photo.png", "<photo.jpg", "--out", ">masks", "--overlay", "--overwrite"),
    ("segment", "<i.index", "<photo.png", "--out", ">masks", "--skip-bad", "--export", "coco,labelme"),
    ("segment", "<scaled.index", "<photo.tif", "--out", ">masks", "--resume"),
    ("evaluate", "<i.index", "<data", "--report", ">report", "--json", ">r.json"),
    ("evaluate", "<whole.index", "<colors", "--split", "val", "--report", ">report", "--picture", ">c.png"),
    ("inspect", "<data", "--picture", ">sheet.png", "--config", "<tiny.yaml"),
    ("search", "<i.index", "<photo.png", "--at", "3,4", "--picture", ">why.png"),
    ("classify", "<whole.index", "<photo.png", "--json", ">found.json"),
    ("similar", "<whole.index", "<photo.png", "--picture", ">sheet.png"),
    ("index", "convert", "<i.index", "--to", "faiss", "--out", ">f.index"),
    ("index", "merge", "<i.index", "<five.index", "--skip", "--out", ">m.index"),
    ("index", "compact", "<i.index", "--keep", "0.5", "--out", ">c.index"),
    ("index", "verify", "<i.index"),
    ("index", "info", "<i.index"),
    ("classes", "<data"),
    ("slices", "<volume.tif", "--out", ">cut"),
    ("assist", "<data", "--labels", "<data", "--out", ">ours", "--index", "<i.index"),
    ("segment", "<i.index", "<clip.mp4", "--out", ">frames"),
)


def paths(case: Case) -> None:
    """One or two of a command's paths are odd."""
    template = case.random.choice(TEMPLATES)
    slots = [place for place, word in enumerate(template) if word[0] in "<>"]
    odd = set(case.random.sample(slots, case.random.choice([1, 1, 2]) if len(slots) > 1 else 1))
    words = [
        word if word[0] not in "<>" else _odd(case, word) if place in odd else _usual(case, word)
        for place, word in enumerate(template)
    ]
    os.chdir(case.place / "cwd")
    case.run(*words)


def _usual(case: Case, word: str) -> str:
    return os.fspath(case.path(word[1:]) if word[0] == "<" else case.out / word[1:])


def _odd(case: Case, word: str) -> str:
    """An odd path in the place of a thing to read, or of one to write, which is free to come."""
    case.new_room()
    if word[0] == "<":
        return str(case.random.choice(READ)(case, word[1:]))
    path = str(case.random.choice(WRITTEN)(case, word[1:]))
    target = Path(os.path.normpath(case.place / "cwd" / path))
    if path and os.path.lexists(target) and not (target.is_file() and target.stat().st_size == 0):
        case.growing.append(target)
    elif path:
        # "x/../y" makes x on its way
        case.free += [_first_new(target), _first_new(case.place / "cwd" / path)]
    return path


def _first_new(path: Path) -> Path:
    """The first part of a path that is not there yet: with it all behind it is free to come."""
    while not os.path.lexists(path.parent):
        path = path.parent
    return path


def _copied(case: Case, name: str, new: str | bytes) -> str:
    """The thing under another name, if the file system takes that."""
    target = case.inside / os.fsdecode(new)
    source = case.path(name)
    with suppress(OSError):
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target)
        else:
            shutil.copy(source, target)
    return os.fspath(target)


def _loop(case: Case, name: str) -> str:
    (case.inside / f"loop-{name}").symlink_to(f"loop-{name}")
    return os.fspath(case.inside / f"loop-{name}")


def _loop_inside(case: Case, name: str) -> str:
    folder = Path(_copied(case, "data", "looping"))
    (folder / "images" / "again").symlink_to("..")
    (folder / "images" / "self.png").symlink_to("self.png")
    return os.fspath(folder)


def _nowhere(case: Case, name: str) -> str:
    (case.inside / f"to-{name}").symlink_to("not-there")
    return os.fspath(case.inside / f"to-{name}")


def _pipe(case: Case, name: str) -> str:
    os.mkfifo(case.inside / name)
    return os.fspath(case.inside / name)


def _pipe_inside(case: Case, name: str) -> str:
    folder = Path(_copied(case, "data", "piped"))
    os.mkfifo(folder / "images" / "a.png")
    os.mkfifo(folder / "masks" / "a.png")
    return os.fspath(folder)


def _socket(case: Case, name: str) -> str:
    os.chdir(case.inside)
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(f"s-{name}"[:90])
    return os.fspath(case.inside / f"s-{name}")


def _device(case: Case, name: str) -> str:
    link = case.inside / f"dev-{name}"
    link.symlink_to(case.random.choice(["/dev/null", "/dev/zero", "/dev/full", "/dev/tty", "/dev/fd/0"]))
    return os.fspath(link)


def _folder(case: Case, name: str) -> str:
    (case.inside / name).mkdir()
    return os.fspath(case.inside / name)


def _file(case: Case, name: str) -> str:
    path = case.inside / f"file-{name}"
    path.write_bytes(case.random.choice([b"", b"x", b"\0" * 1000, b"{}", b"[]"]))
    return os.fspath(path)


def _unreadable(case: Case, name: str) -> str:
    path = Path(_copied(case, name, f"shut-{name}"))
    path.chmod(0)
    return os.fspath(path)


def _words(case: Case, name: str) -> str:
    return case.random.choice(
        [
            *(
                "",
                " ",
                ".",
                "..",
                "-",
                "--",
                "-x",
                "--out",
                "~",
                "~/x",
                "$HOME",
                "*",
                "?",
                "x" * 300,
                "x/" * 60,
            ),
            *(
                "x/../y",
                "file:///etc/passwd",
                "qdrant://127.0.0.1:9/x",
                "qdrant://",
                "qdrant:///x",
                "http://127.0.0.1:9",
            ),
            *(
                "C:\\x",
                "\\\\host\\share",
                "a=b",
                "transfer.k=3",
                "x\ny",
                "\t",
                "\udcff",
                "a\u202eb",
                "%s",
                "{x}",
                "[1]",
            ),
        ]
    )


def _trailing(case: Case, name: str) -> str:
    new = case.random.choice(
        [f"{name} ", f" {name}", f"{name}\n", f"a\n{name}", f"{name}\t", f"{name}.", f"{name}/."]
    )
    return _copied(case, name, new)


def _bytes(case: Case, name: str) -> str:
    stem, dot, ending = name.rpartition(".")
    return _copied(case, name, (stem or name).encode() + b"\xff\xe9" + f"{dot}{ending}".encode() * bool(stem))


def _behind_file(case: Case, name: str) -> str:
    (case.inside / "plain").write_text("x")
    return os.fspath(case.inside / "plain" / name)


def _slash(case: Case, name: str) -> str:
    return os.fspath(case.path(name)) + "/"


def _other(case: Case, name: str) -> str:
    """Something that is there, and something else."""
    things = (
        "data",
        "i.index",
        "whole.index",
        "colors",
        "tiny.yaml",
        "photo.png",
        "clip.mp4",
        "volume.tif",
        "tools",
    )
    return os.fspath(case.path(case.random.choice(things)))


def _other_own(case: Case, name: str) -> str:
    """A copy of something that is there, and something else."""
    return _copied(case, Path(_other(case, name)).name, "other")


def _in_index(case: Case, name: str) -> str:
    return os.fspath(
        Path(_copied(case, "i.index", "own.index")) / case.random.choice([name, "manifest.json", "x/y"])
    )


def _taken(case: Case, name: str) -> str:
    """The name of what a user would not lose."""
    folder = Path(_copied(case, "data", name))
    return os.fspath(folder)


_Make = Callable[[Case, str], str]
_EITHER: tuple[_Make, ...] = (
    *(_words, _words, _words, _loop, _nowhere, _pipe, _socket, _device, _folder, _file, _behind_file),
)
READ: tuple[_Make, ...] = (
    *_EITHER,
    _loop_inside,
    _pipe_inside,
    _unreadable,
    _trailing,
    _trailing,
    _bytes,
    _slash,
)


WRITTEN: tuple[_Make, ...] = (*_EITHER, _other_own, _in_index, _taken)
