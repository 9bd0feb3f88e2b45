"""A flush that fails while its files are being renamed leaves an index that the next opening completes."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from retrieval import ClassInfo, ClassMap, Cosine, IndexSettings, Manifest, create_index, open_index
from retrieval.errors import StorageError

CLASSES = ClassMap((ClassInfo(0, "sky", (1, 2, 3)), ClassInfo(1, "road", (4, 5, 6))))


def rows(count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    vectors = np.eye(8, dtype=np.float32)[:count]
    labels = np.tile(np.array([255, 0], np.uint8), (count, 1))
    patches = np.stack([np.zeros(count), np.arange(count), np.zeros(count)], axis=1).astype(np.int32)
    return vectors, labels, patches


@pytest.mark.parametrize("engine", ["exact", "faiss", "qdrant"])
@pytest.mark.parametrize("renames", range(4))
def test_a_failing_rename_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, renames: int, engine: str
) -> None:
    folder = tmp_path / "bank.index"
    manifest = Manifest(classes=CLASSES, similarity=Cosine(8))
    with create_index(folder, manifest, rows=5, settings=IndexSettings(engine=engine)) as index:
        index.add(*rows(5))
        real, done = os.replace, []

        def replace(source: os.PathLike[str], target: os.PathLike[str]) -> None:
            if str(source).endswith(".new"):
                if len(done) == renames:
                    raise OSError(errno.EACCES, "denied")
                done.append(source)
            real(source, target)

        monkeypatch.setattr(os, "replace", replace)
        with pytest.raises(StorageError):
            index.flush()
        monkeypatch.setattr(os, "replace", real)
    with open_index(folder, verify=True) as index:
        assert len(index) == 5
        assert index.search(np.eye(8, dtype=np.float32)[2:3], 1).ids.tolist() == [[2]]
