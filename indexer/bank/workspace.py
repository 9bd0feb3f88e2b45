"""The folder ``OUT.partial`` in which an index grows, until it is renamed to ``OUT`` as a whole."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from indexer.bank.jobs import BankJob
from indexer.bank.parts import PART_IMAGES
from indexer.datasets import Dataset
from retrieval.errors import IndexMismatchError
from retrieval.store.files import PARTIAL, atomic_write, storage_errors
from retrieval.store.layout import THUMBS
from retrieval.store.staging import publish, workspace

PLAN = "plan.json"
INDEX = "index"


class Workspace:
    """An unfinished build on disk; one process at a time."""

    def __init__(self, out: Path) -> None:
        """Use :meth:`open`."""
        self.out = out
        self.folder = partial_folder(out)
        self.thumbs = self.folder / THUMBS

    @classmethod
    @contextmanager
    def open(
        cls, out: Path, *, fingerprints: Mapping[str, str], dataset: Dataset, jobs: Sequence[BankJob]
    ) -> Iterator[Workspace]:
        """Make or continue the workspace of ``out``, for this process alone; in the end it goes.

        ``fingerprints`` are the extractor's. Raises IndexExistsError where ``out`` is taken,
        IndexMismatchError where the unfinished build is of another recipe, other weights or other
        data, or no build at all, IndexBusyError where another process makes ``out``, StorageError.
        """
        opened = cls(out)
        with workspace(out, opened.folder):
            check_partial(out)
            with storage_errors(opened.folder):
                opened.thumbs.mkdir(exist_ok=True)
            opened._check_plan(_plan(fingerprints, dataset, jobs))
            yield opened

    def fresh_index_folder(self) -> Path:
        """An empty folder in which the finished index is assembled."""
        folder = self.folder / INDEX
        with storage_errors(self.folder):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
        return folder

    def publish(self) -> None:
        """Sync the assembled index and give it its name."""
        publish(self.folder / INDEX, self.out)

    def _check_plan(self, plan: dict[str, str]) -> None:
        path = self.folder / PLAN
        if not path.is_file():
            with atomic_write(path) as file:
                file.write(json.dumps(plan, indent=1).encode())
            return
        try:
            earlier = json.loads(path.read_text())
        except (OSError, ValueError):
            earlier = None
        if earlier == plan:
            return
        known = isinstance(earlier, dict)
        other = " and ".join(key for key in plan if not known or earlier.get(key) != plan[key])
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


def _plan(fingerprints: Mapping[str, str], dataset: Dataset, jobs: Sequence[BankJob]) -> dict[str, str]:
    """What must be the same for a build to go on, as digests."""
    lines = [(job.epoch, job.sample) for job in jobs]
    images = "\n".join(f"{epoch} {s.id} {s.image} {s.labels.name}" for epoch, s in lines)
    classes = json.dumps(dataset.classes.to_json(), sort_keys=True)
    return {
        **fingerprints,
        "data set": hashlib.sha256(f"{images}\n{classes}".encode()).hexdigest(),
        "number of images in a part": str(PART_IMAGES),
    }
