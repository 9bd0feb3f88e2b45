from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from retrieval import IndexFolder, IndexSettings, PatchIndex, open_index, read_manifest
from retrieval.edit.recipe import change_section
from retrieval.errors import IndexBusyError
from retrieval.store.layout import CHANGE_LOCK
from retrieval.store.lock import Lock


@pytest.mark.parametrize("engine", ["exact", "faiss"])
def test_a_section_changes_in_one_commit_and_rows_do_not(
    tmp_path: Path, build: Callable[..., PatchIndex], bank, engine: str
) -> None:
    pytest.importorskip("faiss" if engine == "faiss" else "torch")
    with build(tmp_path / "index", IndexSettings(engine=engine)) as index:
        index.flush()
        found = index.search(bank.queries, 5)
    before = read_manifest(tmp_path / "index")
    change_section(tmp_path / "index", "transfer", {"calibration": 1.5})
    change_section(tmp_path / "index", "transfer", {"k": 7})
    after = read_manifest(tmp_path / "index")
    assert after.recipe == {**before.recipe, "transfer": {"calibration": 1.5, "k": 7}}
    assert (after.counts, after.fingerprints) == (before.counts, before.fingerprints)
    assert after.generation == before.generation + 2
    assert IndexFolder.open(tmp_path / "index").verify() == []
    with open_index(tmp_path / "index", verify=True) as index:
        np.testing.assert_array_equal(index.search(bank.queries, 5).ids, found.ids)


def test_a_change_waits_for_another(tmp_path: Path, build: Callable[..., PatchIndex]) -> None:
    with build(tmp_path / "index", IndexSettings(engine="exact")) as index:
        index.flush()
    lock = Lock(tmp_path / "index" / CHANGE_LOCK)
    lock.acquire("test")
    try:
        with pytest.raises(IndexBusyError):
            change_section(tmp_path / "index", "transfer", {"k": 7}, wait=0)
    finally:
        lock.release()
    assert "transfer" not in read_manifest(tmp_path / "index").recipe
