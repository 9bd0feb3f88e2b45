"""Faults at calls that write: a few points of each engine. ``python -m tests.faults`` is the long form."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from .injector import compile_library, environment, why_not

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not() or "faults can be injected")

#: A writer that replaces no file in one step: the manifest is written over where it lies.
CARELESS = """
import torch
torch.set_num_threads(1)
import sys
from contextlib import contextmanager
from pathlib import Path
from retrieval.store import commit
from tests.faults.campaign import Case
from tests.faults.injector import Injector

@contextmanager
def careless(path):
    with path.open("wb", buffering=0) as file:
        yield file

commit.atomic_write = careless
case = Case("exact", "remove", Path(sys.argv[1]), Injector())
points = [case.inject("torn", number + 1) for number, kind in enumerate(case.calls) if kind == "write"]
print([point.state for point in points if point.broken])
"""


def test_every_fault_leaves_the_old_index_or_the_new_one() -> None:
    pytest.importorskip("faiss")
    pytest.importorskip("qdrant_edge")
    some = "exact, (build|relabel)|faiss, (convert|tail, add)|qdrant, remove"
    command = [sys.executable, "-m", "tests.faults", "--points", "30", "--only", some]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "30 points, 0 broken" in done.stdout


#: Files and folders that are left to the system to write when it likes.
UNSYNCED = """
import sys
from pathlib import Path
from retrieval.store import commit, row_file, staging
from tests.faults.campaign import Case
from tests.faults.injector import Injector

print(Case("exact", "add", Path(sys.argv[1]), Injector()).unsynced)
row_file.sync_file = lambda file: file.flush()
for change in ("add", "convert"):
    folder = Path(sys.argv[1]) / change
    folder.mkdir()
    print([Path(path).name for path in Case("exact", change, folder, Injector()).unsynced])
staging.sync_tree = lambda folder: None
folder.rename(folder.with_name("before"))
folder.mkdir()
print([Path(path).name for path in Case("exact", "convert", folder, Injector()).unsynced])
"""


def test_a_writer_without_care_is_found(tmp_path: Path) -> None:
    done = run(CARELESS, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "manifest.json" in done.stdout and "IndexDamagedError" in done.stdout


def test_what_is_not_synced_is_found(tmp_path: Path) -> None:
    """Rows that grow in place; a new index is synced as a whole, whoever wrote it; and one that is not."""
    done = run(UNSYNCED, tmp_path)
    assert done.returncode == 0, done.stderr
    safe, rows, whole, folder = done.stdout.splitlines()
    assert safe == "[]" and rows == "['labels.npy', 'patches.npy', 'vectors.npy']" and whole == "[]"
    assert "vectors.npy" in folder and "000000.jpg" in folder


def run(program: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a program below the injector, with an empty folder to work in."""
    pytest.importorskip("faiss")
    pytest.importorskip("qdrant_edge")
    library = compile_library(folder)
    (folder / "work").mkdir()
    return subprocess.run(
        [sys.executable, "-c", program, str(folder / "work")],
        cwd=ROOT,
        env={
            **environment(library),
            "PYTHONPATH": str(ROOT),
        },
        capture_output=True,
        text=True,
        check=False,
    )
