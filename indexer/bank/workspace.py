"""The folder ``OUT.partial`` in which an index grows, until it is renamed to ``OUT`` as a whole."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from retrieval.errors import IndexMismatchError
from retrieval.json_text import parse_json, read_limited
from retrieval.store.files import PARTIAL, atomic_write, storage_errors
from retrieval.store.layout import THUMBS
from retrieval.store.staging import workspace

PLAN = "plan.json"
INDEX = "index"
#: The entry of a plan that stands for the classes of the data set.
CLASSES = "class map"


class Workspace:
    """An unfinished build on disk; one process at a time."""

    def __init__(self, out: Path) -> None:
        """Use :meth:`open`."""
        self.out = out
        self.folder = partial_folder(out)
        self.thumbs = self.folder / THUMBS

    @classmethod
    @contextmanager
    def open(cls, out: Path, *, plan: dict[str, str]) -> Iterator[Workspace]:
        """Make or continue the workspace of ``out``, for this process alone.

        In the end the assembled index takes the name ``out``, and the rest goes. ``plan`` is what must
        be the same for a build to go on, as digests. Raises IndexExistsError where ``out`` is taken,
        IndexMismatchError where the unfinished build is of another recipe, other weights or other data,
        or no build at all, IndexBusyError where another process makes ``out``, StorageError.
        """
        opened = cls(out)
        with workspace(out, opened.folder, INDEX):
            check_partial(out)
            with storage_errors(opened.folder):
                opened.thumbs.mkdir(exist_ok=True)
            opened._check_plan(plan)
            yield opened

    def fresh_index_folder(self) -> Path:
        """An empty folder in which the finished index is assembled."""
        folder = self.folder / INDEX
        with storage_errors(self.folder):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
        return folder

    def _check_plan(self, plan: dict[str, str]) -> None:
        path = self.folder / PLAN
        if not path.is_file():
            with atomic_write(path) as file:
                file.write(json.dumps(plan, indent=1).encode())
            return
        try:
            earlier = parse_json(read_limited(path), own=True)
        except (OSError, ValueError):
            earlier = None
        if earlier == plan:
            return
        known = isinstance(earlier, dict)
        other = " and ".join(key for key in plan if not known or earlier.get(key) != plan[key])
        if known and CLASSES in earlier and earlier[CLASSES] != plan.get(CLASSES):
            raise IndexMismatchError(f"the classes changed: delete {self.folder} to begin anew")
        raise IndexMismatchError(
            f"{self.folder} holds an unfinished build with another {other}; run that one to its end, "
            "delete the folder, or choose another --out"
        )


def partial_folder(out: Path) -> Path:
    """Where the build of ``out`` keeps what it has done so far."""
    return out.parent / f"{out.name}.partial"


def check_partial(out: Path) -> None:
    """Raise IndexMismatchError where ``OUT.partial`` holds files that are not of an unfinished build."""
    folder = partial_folder(out)
    if not folder.is_dir() or (folder / PLAN).exists():
        return
    # what a build leaves that was stopped before it wrote its plan
    ours = {"lock", THUMBS, PLAN + PARTIAL}  # older builds had their lock here
    with storage_errors(folder):
        others = [path.name for path in folder.iterdir() if path.name not in ours]
        if (folder / THUMBS).is_dir():
            others += [f"{THUMBS}/{path.name}" for path in (folder / THUMBS).iterdir()]
    if others:
        raise IndexMismatchError(
            f"{folder} holds files that are not of an unfinished build of this index "
            f"({', '.join(sorted(others)[:3])}); move or delete it, or choose another --out"
        )
