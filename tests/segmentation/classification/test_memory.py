"""Pairs that are nearly the same, and labels that the other images deny."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from retrieval.errors import ConfigError
from retrieval.folder import IndexFolder
from segmentation.classification.matches import MatchBook
from segmentation.classification.memory import near_duplicates, suspicious_labels

from .toy import build_memory, photo, save, write_memory


def write_spoiled(root: Path) -> list[tuple[Path, tuple[str, ...]]]:
    """A memory with a copy of a file under another class, and a sea that is called rose."""
    images = write_memory(root / "memory", 5)
    copy = Path(shutil.copy(images[0][0], root / "copy.png"))
    return [*images, (copy, ("leaf",)), (save(root / "lie.png", photo("sea", 77)), ("rose",))]


def test_pairs_are_listed_once_the_nearest_first(tmp_path: Path) -> None:
    folder = IndexFolder.open(build_memory(tmp_path / "i", write_spoiled(tmp_path)))
    with folder.index() as index:  # type: ignore[attr-defined]
        book = MatchBook(index, folder.records, thumbnail=folder.thumbnail)
        rows = next(iter(index.stream()))
        similarities = rows.vectors @ rows.vectors.T
        for bound in (0.98, 0.995, 0.9999):
            pairs = near_duplicates(index, book, bound=bound)
            found = {(pair.first.number, pair.second.number) for pair in pairs}
            expected = {(i, j) for i in range(17) for j in range(i + 1, 17) if similarities[i, j] > bound}
            assert found == expected and len(pairs) == len(expected)
            assert [p.similarity for p in pairs] == sorted((p.similarity for p in pairs), reverse=True)
        copied = next(pair for pair in pairs if pair.second.image_id == "copy")
        assert copied.same_file and copied.labels_differ and copied.first.image_id == "rose0"
        assert copied.second.thumbnail is not None


def test_views_of_one_image_are_no_pair(tmp_path: Path) -> None:
    folder = IndexFolder.open(build_memory(tmp_path / "i", write_spoiled(tmp_path)))
    records = [replace(record, epoch=1) if record.id == "copy" else record for record in folder.records]
    with folder.index() as index:  # type: ignore[attr-defined]
        pairs = near_duplicates(index, MatchBook(index, records), bound=0.9999)
    assert all("copy" not in (pair.first.image_id, pair.second.image_id) for pair in pairs)


def test_labels_that_the_others_deny(tmp_path: Path) -> None:
    folder = IndexFolder.open(build_memory(tmp_path / "i", write_spoiled(tmp_path)))
    with folder.index() as index:  # type: ignore[attr-defined]
        book = MatchBook(index, folder.records)
        doubts = suspicious_labels(index, book, folder.records, k=3, temperature=0.02)
        assert {(d.image.image_id, d.image.classes, d.suggested) for d in doubts} == {
            ("lie", ("rose",), "sea"),
            ("copy", ("leaf",), "rose"),
        }
        for doubt in doubts:
            assert doubt.own_share < 0.1 and doubt.share > 0.7
            assert len(doubt.neighbours) == 3
            # neither itself nor the same file under another name has a say
            assert {"lie", "copy", "rose0"}.isdisjoint(match.image_id for match in doubt.neighbours)
        assert suspicious_labels(index, book, folder.records, k=3, temperature=0.02, own_share=0) == []


def test_a_compacted_index_is_refused(tmp_path: Path) -> None:
    folder = IndexFolder.open(build_memory(tmp_path / "i", write_memory(tmp_path / "memory")))
    with folder.index() as index:  # type: ignore[attr-defined]
        index.manifest = replace(index.manifest, counts={**index.manifest.counts, "patches": 99})
        with pytest.raises(ConfigError, match="compacted"):
            near_duplicates(index, MatchBook(index, folder.records))
        with pytest.raises(ConfigError, match="compacted"):
            suspicious_labels(index, MatchBook(index, folder.records), folder.records, k=3, temperature=1)
