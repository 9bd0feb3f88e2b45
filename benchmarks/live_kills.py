"""Kills at random moments of changes of an index: what was acknowledged is there, and what was not is not.

    python -m benchmarks.live_kills --kills 50 --out benchmarks/results

Each kill is a SIGKILL to a process in the middle of ``index add``, ``replace``, ``relabel`` or ``merge``
(their Python functions; a command adds parsing alone). Afterwards every file is compared with its checksum
and every row with those of an index that nobody stopped, and the change is run to its end.
"""

from __future__ import annotations

import multiprocessing
import random
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.command import plain_parser
from benchmarks.report import write_table
from indexer import build_index, load_dataset, load_recipe
from indexer.bank.add import add_data
from indexer.recipe import RuntimeSettings
from retrieval import IndexFolder
from retrieval.edit.merge import merge_indexes
from retrieval.edit.relabel import relabel_index
from retrieval.errors import IndexFileError
from retrieval.progress import ProgressEvent

TINY = [
    "backbone.model=test_vit",
    "backbone.weights=random",
    "image.size=[48,64]",
    "features.projection_width=24",
    "objective.kind=kl",
    "bank.max_patches=null",
    "runtime.device=cpu",
    "runtime.precision=float32",
    "runtime.batch_size=2",
]
CLASSES = '{"classes": [{"id": 0, "name": "sky"}, {"id": 1, "name": "car"}, {"id": 2, "name": "truck"}]}'
BUILT, ADDED, COMMIT = 4, 8, 2
CHANGES = ("add", "replace", "relabel", "merge")
NAMES = {"car": "vehicle", "truck": "vehicle"}

#: Rows of each image: its id -> what of its rows can be compared.
Rows = dict[str, list[bytes]]


@dataclass(frozen=True)
class Ground:
    """What the kills are done on: indexes before a change, and after one that nobody stopped."""

    folder: Path
    engine: str

    @property
    def before(self) -> Path:
        """Of BUILT images."""
        return self.folder / "before.index"

    @property
    def other(self) -> Path:
        """Of ADDED more."""
        return self.folder / "other.index"

    def after(self, change: str) -> Path:
        """The result of a change."""
        return self.folder / f"{change}.index"


@dataclass
class Tally:
    """What became of the kills of one change."""

    kills: int = 0
    finished: int = 0
    """Changes that were done before the kill came."""
    acknowledged: int = 0
    """Commits that were acknowledged before the kill."""
    lost: int = 0
    """Those of them that were not there afterwards."""
    broken: int = 0
    """Indexes that were not wholly in one state, or could not be taken to their end."""


def write_data(folder: Path, numbers: range, *, turn: int = 0) -> Path:
    """Photos of blocks of three classes; ``turn`` gives them other masks."""
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    for number in numbers:
        rng = np.random.default_rng(number)
        cells = rng.integers(0, 3, (3, 4))
        photo = np.kron(cells, np.ones((20, 20), int))[..., None] * 80 + rng.integers(0, 60, (60, 80, 3))
        mask = np.kron((cells + turn) % 3, np.ones((20, 20), int))
        Image.fromarray(photo.astype(np.uint8)).save(folder / "images" / f"photo{number:02d}.png")
        Image.fromarray(mask.astype(np.uint8)).save(folder / "masks" / f"photo{number:02d}.png")
    (folder / "classes.json").write_text(CLASSES)
    return folder


def prepare(folder: Path, engine: str) -> Ground:
    """Build the indexes that the kills need, in ``folder``."""
    ground = Ground(folder, engine)
    recipe = load_recipe(None, [*TINY, f"index.engine={engine}"])
    built = load_dataset(write_data(folder / "built", range(BUILT)))
    more = load_dataset(write_data(folder / "add", range(BUILT, BUILT + ADDED)))
    write_data(folder / "replace", range(BUILT + ADDED), turn=1)
    build_index(built, ground.before, recipe=recipe)
    build_index(more, ground.other, recipe=recipe)
    for change in CHANGES:
        if change == "replace":
            shutil.copytree(ground.after("add"), ground.after("replace"))
        elif change != "merge":
            shutil.copytree(ground.before, ground.after(change))
        apply(change, ground, ground.after(change), lambda event: None)
    return ground


def apply(change: str, ground: Ground, index: Path, progress: Callable[[ProgressEvent], None]) -> None:
    """Do one change, of the index or into it."""
    if change == "relabel":
        relabel_index(index, NAMES)
    elif change == "merge":
        merge_indexes(ground.before, ground.other, index)
    else:
        data = load_dataset(ground.folder / change)
        here = RuntimeSettings(device="cpu", precision="float32", batch_size=2)  # the same in every process
        again = change == "replace"
        add_data(index, data, replace=again, runtime=here, commit_images=COMMIT, progress=progress)


def rows_of(index: Path) -> Rows:
    """The rows of an index by image, all checksums compared."""
    folder = IndexFolder.open(index)
    with folder.index(verify=True) as opened:
        ids = {record.number: record.id for record in folder.records if not record.removed}
        found: Rows = {id: [] for id in ids.values()}
        names = opened.classes.names
        for rows in opened.stream():
            for vector, label, patch in zip(rows.vectors, rows.labels, rows.patches, strict=True):
                named = sorted((n, int(s)) for n, s in zip(names, label, strict=True) if s)
                rounded = np.round(vector.astype(np.float64), 2) + 0.0
                found[ids[int(patch[0])]].append(f"{named} {patch[1:].tolist()} {rounded[:4]}".encode())
    return found


def run_once(change: str, ground: Ground, index: Path, kill_after: float | None, tally: Tally) -> float:
    """One change in a process of its own, killed after some seconds; how long it ran."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "indexer.bank.add", "indexer.features.fungi", "faiss"])
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(change, ground, index, there))
    process.start()
    there.close()
    acknowledged, done = 0, False
    try:
        here.recv()  # it is ready
        start = time.monotonic()
        left: float | None = kill_after
        while left is None or left > 0:
            if here.poll(left):
                acknowledged, done = here.recv()
                if done:
                    break
            left = None if kill_after is None else kill_after - (time.monotonic() - start)
        seconds = time.monotonic() - start
        process.kill()
        process.join()
        while here.poll():
            acknowledged, done = here.recv()
    except EOFError:
        process.join()
        if process.exitcode not in (0, -9):
            raise RuntimeError(f"the process of {change} ended with {process.exitcode}") from None
    tally.acknowledged += acknowledged
    tally.finished += done
    _check(change, ground, index, acknowledged, done, tally)
    return seconds


def _child(change: str, ground: Ground, index: Path, pipe: Connection) -> None:
    """The process that is killed: it says what is acknowledged, and that all is done."""

    def heard(event: ProgressEvent) -> None:
        if event.stage == "images" and event.event == "advance":
            pipe.send((event.done // COMMIT, False))

    pipe.send("ready")
    apply(change, ground, index, heard)
    pipe.send((1 if change in ("relabel", "merge") else (ADDED + BUILT) // COMMIT, True))


def _check(change: str, ground: Ground, index: Path, acknowledged: int, done: bool, tally: Tally) -> None:
    """Compare what is there with what may be there, and take the change to its end."""
    old = {} if change == "merge" else rows_of(ground.after("add") if change == "replace" else ground.before)
    new = rows_of(ground.after(change))
    tally.kills += 1
    try:
        found = rows_of(index) if index.exists() else {}
    except (IndexFileError, KeyError):
        tally.broken += 1
        return
    order = sorted(set(new) - set(old)) if change == "add" else sorted(new)
    whole = change in ("relabel", "merge")
    size = len(order) if whole else COMMIT
    commits = [order[start : start + size] for start in range(0, len(order), size)]
    states = [
        {**old, **{id: new[id] for commit in commits[:n] for id in commit}} for n in range(len(commits) + 1)
    ]
    matching = [n for n, state in enumerate(states) if state == found]
    if not matching:
        tally.broken += 1
        return
    tally.lost += max(0, (len(commits) if done else min(acknowledged, len(commits))) - max(matching))
    try:
        if not (whole and max(matching) == len(commits)):
            apply(change, ground, index, lambda event: None)
        tally.broken += rows_of(index) != new
    except IndexFileError:
        tally.broken += 1


def kill_many(ground: Ground, change: str, kills: int, seed: int) -> Tally:
    """Kill one change ``kills`` times, at moments spread over the time it takes undisturbed."""
    rng, tally, index = random.Random(seed), Tally(), ground.folder / "victim.index"

    def fresh() -> None:
        for left in ground.folder.glob("victim.index*"):
            shutil.rmtree(left)
        if change != "merge":
            shutil.copytree(ground.after("add") if change == "replace" else ground.before, index)

    fresh()
    seconds = run_once(change, ground, index, None, Tally())
    for number in range(kills):
        fresh()
        run_once(change, ground, index, seconds * (number + rng.random()) / kills, tally)
    return tally


def main() -> None:
    """Print the table, and write it with ``--out``."""
    parser = plain_parser(__doc__)
    parser.add_argument("--kills", type=int, default=50, help="kills of each engine, all changes together")
    parser.add_argument("--engines", nargs="+", default=["exact", "faiss", "qdrant"])
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for engine in arguments.engines:
        with tempfile.TemporaryDirectory(prefix="mycelia-kills-") as folder:
            ground = prepare(Path(folder), engine)
            for number, change in enumerate(CHANGES):
                kills = arguments.kills // len(CHANGES) + (number < arguments.kills % len(CHANGES))
                tally = kill_many(ground, change, kills, arguments.seed + number)
                rows.append({"engine": engine, "change": change, **vars(tally)})
    notes = ["`lost`: acknowledged commits that were not there; `broken`: anything but one whole state."]
    write_table("live-kills", rows, folder=arguments.out, notes=notes, json_file=arguments.json)


if __name__ == "__main__":
    main()
