"""An index may come from anybody: its manifest names plain files of its folder, and says plain numbers."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from retrieval import IndexFolder, read_manifest
from retrieval.edit.remove import remove_images
from retrieval.errors import IndexDamagedError
from retrieval.store.files import sha256_file
from retrieval.store.manifest import PENDING, has_manifest, plain_name

GOLDEN = Path(__file__).parents[2] / "golden"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(GOLDEN / "format-2-exact", tmp_path / "bank.index"))


def seal(folder: Path, data: dict[str, Any], name: str = "manifest.json") -> None:
    """Write a manifest with the checksum that its content has."""
    data.pop("checksum", None)
    digest = hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()
    (folder / name).write_text(json.dumps({**data, "checksum": digest}))


def stored(folder: Path) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    return data


@pytest.mark.parametrize(
    "name",
    [
        *("../victim", "a/../../victim", "/etc/passwd", "..", ".", "", "a//b", "./a", "..\\victim", "C:x"),
        *("a\0b", "x" * 1025, "manifest.json"),
    ],
)
def test_a_listed_name_that_is_not_plain_is_refused(folder: Path, name: str) -> None:
    for forge in ("name", "path"):
        data = stored(shutil.copytree(folder, folder.with_name(forge)))
        entry = data["files"]["removed.npy"]
        data["files"] |= {name: entry} if forge == "name" else {"removed.npy": {**entry, "path": name}}
        seal(folder.with_name(forge), data)
        with pytest.raises(IndexDamagedError, match="no name of a file in the folder"):
            read_manifest(folder.with_name(forge))


def test_names_that_indexes_have_are_plain() -> None:
    for name in ("labels.g3.npy", "thumbs/000001.jpg", "edge/segments/1..2/a b.bin", "ä.npy"):
        assert plain_name(name) == name


def test_a_forged_commit_touches_nothing_outside(folder: Path) -> None:
    victim = folder.parent / ("victim" + PENDING)
    victim.write_bytes(b"mine")
    (folder.parent / "victim").write_bytes(b"mine too")
    data = stored(folder)
    data["files"]["../victim"] = {"bytes": 4, "sha256": sha256_file(victim)}
    seal(folder, data, "manifest.json" + PENDING)
    assert "../victim" not in IndexFolder.open(folder).manifest.files
    remove_images(folder, ["image-0"])
    assert victim.read_bytes() == b"mine" and (folder.parent / "victim").read_bytes() == b"mine too"
    (folder / "manifest.json").unlink()
    seal(folder, data, "manifest.json" + PENDING)
    assert not has_manifest(folder)


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, '{"format": Infinity}', '{"format": 1e999}', '{"format": ' + "9" * 5000 + "}", "[]"],
)
def test_a_manifest_beyond_the_limits_is_damaged(folder: Path, text: str) -> None:
    (folder / "manifest.json").write_text(text)
    with pytest.raises(IndexDamagedError, match="is no manifest") as caught:
        read_manifest(folder)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("key", ["counts", "classes", "files", "similarity"])
def test_a_sealed_manifest_with_other_shapes_is_damaged(folder: Path, key: str) -> None:
    for other in (7, [1], {"x": None}, None):
        seal(folder, stored(folder) | {key: other})
        with pytest.raises(IndexDamagedError, match="is no manifest"):
            read_manifest(folder)
        shutil.copy(GOLDEN / "format-2-exact" / "manifest.json", folder)
