"""Archives where commands take folders."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from .command import error_of, run


def test_a_data_set_and_photos_in_archives(
    index: Path, data: Path, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    packed = Path(shutil.make_archive(str(tmp_path / "set"), "gztar", data.parent, data.name))
    photos = Path(shutil.make_archive(str(tmp_path / "photos"), "zip", data / "images"))
    out = tmp_path / "packed.index"
    result = run("index", "build", packed, "--config", tiny, "--out", out)
    assert result.exit_code == 0, result.output
    for name in ("vectors.npy", "labels.npy"):
        assert (out / name).read_bytes() == (index / name).read_bytes()
    result = run("segment", out, photos, "--out", tmp_path / "masks", "--json")
    assert result.exit_code == 0, result.output
    assert [entry["image"] for entry in json.loads(result.stdout)] == [
        f"{photos}/photo{n}.png" for n in range(3)
    ]
    assert len(list((tmp_path / "masks").glob("photo?.png"))) == 3
    assert "nothing odd" in run("inspect", packed).output
    assert run("evaluate", out, packed).exit_code == 0
    photos.write_bytes(b"no archive")
    assert "photos.zip is damaged or no archive" in error_of(
        run("segment", out, photos, "--out", tmp_path / "m")
    )
    assert list((tmp_path / "temporary").iterdir()) == []
