"""Indexes that change while they are used, and masks for other tools, with wild options."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from retrieval import IndexFolder

from ....segmentation.cli.command import write_photos
from .. import wild
from ..case import Case, FaultError, RefusedError


def verified(index: Path) -> None:
    """Raise Fault where an index is not whole, or what it says of itself does not agree."""
    try:
        folder = IndexFolder.open(index)
        folder.verify()
        with folder.index(device="cpu") as opened:
            rows = sum(len(part.labels) for part in opened.stream())
            if rows != len(opened) or rows != folder.live_rows:
                raise FaultError(f"{rows} rows are there, {len(opened)} are told")
    except Exception as error:
        raise FaultError(f"the index is damaged afterwards: {error!r}") from error


def live(case: Case) -> None:
    """One to three changes of an index, each as wild as may be; it is whole after each."""
    random = case.random
    index = Path(shutil.copytree(case.path("i.index"), case.inside / "i.index"))
    more = write_photos(case.inside / "more", count=random.choice([1, 3, 5]))
    _spoil(case, more)
    case.free.append(index)
    ended: RefusedError | None = None
    for _ in range(random.choice([1, 2, 3])):
        try:
            ended = None
            case.run(*_change(case, index, more))
        except RefusedError as refusal:
            ended = refusal
        verified(index)
    if ended is not None:
        raise ended


def _change(case: Case, index: Path, more: Path) -> list[object]:
    random, what = case.random, case.random.randrange(6)
    text = wild.text(random) or "x"
    if what < 2:
        options = random.sample(
            [
                "--skip-bad",
                "--new-ids",
                "--unmasked=skip",
                "--unmasked=background",
                "--format=folder",
                "--subset=1",
            ],
            random.randrange(3),
        )
        return ["index", random.choice(["add", "replace"]), index, more, *options]
    if what == 2:
        pairs = [
            "dark=bright",
            "bright=dark",
            "dark=x,bright=x",
            "dark=a,bright=dark",
            f"dark={text}",
            f"{text}=a",
        ]
        return ["index", "relabel", index, "--map", random.choice(pairs)]
    if what == 3:
        ids = ["photo0", "photo1", "photo2", "photo3", "photo9", text, "0", "*"]
        return ["index", "remove", index, *random.sample(ids, random.choice([1, 1, 2, 4]))]
    if what == 4:
        other = case.path(
            random.choice(["five.index", "i.index", "whole.index", "scaled.index", "faiss.index", "data"])
        )
        options = random.sample(["--skip", "--new-ids", "--to=faiss", f"--to={text}"], random.randrange(3))
        return ["index", "merge", index, other, "--out", case.out / f"m{random.random()}", *options]
    amount = random.choice(["1", "5", "10", "0.5", "1000000", "0", "-1", "nan", text])
    return ["index", "compact", index, "--keep", amount, "--out", case.out / f"c{random.random()}"]


def _spoil(case: Case, data: Path) -> None:
    """Something of a small data set is not as it should be."""
    random, what = case.random, case.random.randrange(8)
    photo, mask = (data / part / "photo0.png" for part in ("images", "masks"))
    if what == 0:
        photo.write_bytes(wild.changed_bytes(random, photo.read_bytes()))
    elif what == 1:
        mask.write_bytes(wild.changed_bytes(random, mask.read_bytes()))
    elif what == 2:
        mask.unlink()
    elif what == 3:
        Image.fromarray(np.full((48, 70), random.choice([2, 7, 254, 255]), np.uint8)).save(mask)
    elif what == 4:
        Image.fromarray(np.zeros((random.choice([1, 48]), random.choice([1, 69])), np.uint8)).save(mask)
    elif what == 5:
        classes = [
            {"id": random.choice([0, 5, 255]), "name": "dark"},
            {"id": 1, "name": random.choice(["new", "dark", "x" * 300])},
        ]
        (data / "classes.json").write_bytes(
            wild.dumped({"classes": classes, "ignore": random.choice([[], [255], [1]])})
        )
    elif what == 6:
        photo.rename(photo.with_name(random.choice(["photo0.jpg", "é.png", "a b.png", "photo0.PNG", ".png"])))


def export(case: Case) -> None:
    """``segment`` with options of exports, regions, frames and thresholds that may not fit."""
    random = case.random
    text, amount = wild.text(random) or "x", str(wild.number(random))[:5000]
    formats = [
        "coco",
        "coco-rle",
        "labelme",
        "cvat",
        "label-studio",
        "label-studio-polygons",
        "yolo",
        "geojson",
        text,
    ]
    options: list[str] = ["--export", ",".join(random.sample(formats, random.choice([1, 2, 8])))]
    wilder = [
        *(["--tolerance", amount], ["--export-classes", random.choice(["all", "dark", "dark,cat", text])]),
        *(
            ["--overlay"],
            ["--confidence"],
            ["--json"],
            ["--json", "--instances", random.choice(["dark", text])],
        ),
        *(
            ["--min-area", amount],
            ["--threshold", random.choice(["dark=0.5", "dark=nan", "cat=1", "dark", f"dark={amount}"])],
        ),
        *(
            ["--every", amount],
            ["--smooth", amount],
            ["--resume"],
            ["--overwrite"],
            ["--skip-bad"],
            ["--max-pixels", amount],
        ),
    ]
    for more in random.sample(wilder, random.choice([0, 1, 2, 4])):
        options += more
    if random.random() < 0.3:
        options = options[2:]
    photos = [case.path(random.choice(["photo.png", "photo.jpg", "photo.tif", "photo.gif", "data/images"]))]
    case.run(
        "segment", case.path(random.choice(["i.index", "scaled.index"])), *photos, "--out", case.out, *options
    )
