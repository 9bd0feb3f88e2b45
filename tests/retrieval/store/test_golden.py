"""Indexes that earlier versions wrote must stay readable, byte for byte as they are in the repository."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from retrieval import open_index, read_images
from retrieval.store.manifest import FORMAT

GOLDEN = Path(__file__).parents[2] / "golden"
FOLDERS = sorted(path for path in GOLDEN.iterdir() if path.is_dir() and path.name.startswith("format-"))


def queries() -> np.ndarray:
    """What ``tests/golden/make.py`` asked, written out independently."""
    rows = [[np.sin((r + 1) * (c + 1) * 0.7 + 0.3) for c in range(8)] for r in range(4)]
    return np.array([row / np.linalg.norm(row) for row in rows], dtype=np.float32)


def test_there_is_a_golden_index_of_each_engine() -> None:
    found = {folder.name for folder in FOLDERS}
    assert {"format-1-exact", "format-1-faiss"} <= found
    for number in (2, FORMAT):
        kinds = ("exact", "faiss", "sparse-weighted", "reranked")
        assert {f"format-{number}-{kind}" for kind in kinds} <= found


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_golden_index_opens_and_finds_what_it_found_when_it_was_written(
    folder: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / folder.name))
    expected = json.loads(folder.with_suffix(".json").read_text())
    with open_index(copy, verify=True) as index:
        found = index.search(queries(), 5)
        assert len(index) == 16  # 24 rows, one image of three removed
        assert (index.classes.names[0], index.classes.names[-1]) == ("sky", "road")
        assert index.classes.ids[[0, -1]].tolist() == [0, 7]
        assert len(index.classes) == (40 if "sparse" in folder.name else 2)
        assert index.manifest.labels["kind"] == ("sparse" if "sparse" in folder.name else "dense")
    np.testing.assert_array_equal(found.ids, expected["ids"])
    np.testing.assert_allclose(found.similarities, expected["similarities"], atol=1e-4)
    np.testing.assert_array_equal(found.labels, expected["labels"])
    if expected.get("weights") is None:
        assert found.multiplicity is None
    else:
        np.testing.assert_array_equal(found.multiplicity, expected["weights"])
    records = read_images(copy)
    assert [record.id for record in records] == ["image-0", "image-1", "image-2"]
