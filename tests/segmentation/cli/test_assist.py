"""Proposals for photos without labels, and whose files are never touched."""

from __future__ import annotations

import json
import re
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from retrieval.folder import IndexFolder

from .command import error_of, run, write_photos


@pytest.fixture
def photos(tmp_path: Path, data: Path) -> Path:
    """Five photos without labels, one of them in a folder, and one that the data set has."""
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    generator = np.random.default_rng(5)
    for number in range(5):
        pixels = generator.integers(0, 255, size=(40, 60, 3)).astype(np.uint8)
        name = f"more/{number}.png" if number == 4 else f"{number}.jpg"
        Image.fromarray(pixels).save(folder / name)
    shutil.copy(data / "images" / "photo0.png", folder / "known.png")
    return folder


def assist(photos: Path, data: Path, out: Path, tiny: Path, *more: object) -> Any:
    result = run("assist", photos, "--labels", data, "--out", out, "--config", tiny, *more)
    assert result.exit_code == 0, result.output
    return result


def listed(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "next.json").read_text())
    return found


def test_every_photo_without_a_label_gets_a_mask_and_a_rank(
    photos: Path, data: Path, tiny: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    result = assist(photos, data, out, tiny, "--next", 2, "--export", "labelme")
    assert "5 photos with proposals, 1 labelled already; memory of 3 images (built)" in result.stdout
    masks = sorted(path.relative_to(out).as_posix() for path in out.rglob("*.png"))
    assert masks == ["0.png", "1.png", "2.png", "3.png", "more/4.png"]
    with Image.open(out / "0.png") as mask:
        assert mask.size == (60, 40)
    assert (out / "more" / "4.json").is_file()
    found = listed(out)
    assert found["labelled"] == ["known.png"]
    assert [entry["rank"] for entry in found["next"]] == [1, 2, 3, 4, 5]
    assert {entry["photo"] for entry in found["next"]} == {"0.jpg", "1.jpg", "2.jpg", "3.jpg", "more/4.png"}
    assert "below 0.5 confidence" in found["next"][0]["reasons"][0]
    page = (out / "next.html").read_text()
    sources = re.findall(r'src="([^"]+)"', page)
    assert len(sources) == 4 and all((out / source).is_file() for source in sources)
    assert "http" not in page and "prefers-color-scheme: dark" in page


def test_a_file_of_all_proposals_has_those_that_stay(
    photos: Path, data: Path, tiny: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assist(photos, data, out, tiny, "--export", "coco")
    exported = json.loads((out / "coco.json").read_text())
    assert len(exported["images"]) == 5
    Image.fromarray(np.zeros((40, 60), dtype=np.uint8)).save(out / "0.png")
    assist(photos, data, out, tiny, "--export", "coco")
    names = [image["file_name"] for image in json.loads((out / "coco.json").read_text())["images"]]
    assert sorted(names) == ["1.jpg", "2.jpg", "3.jpg", "more/4.png"]
    (out / "coco.json").write_text("{}")
    assert "kept coco.json" in assist(photos, data, out, tiny, "--export", "coco").stderr
    assert (out / "coco.json").read_text() == "{}"


def test_a_file_of_a_person_survives(photos: Path, data: Path, tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "1.png").write_bytes(b"drawn by hand")
    assert "kept 1.png: a person made or changed it" in assist(photos, data, out, tiny).stderr
    with Image.open(out / "0.png") as mask:
        edited = np.array(mask)
    edited[:10] = 1 - edited[:10]
    Image.fromarray(edited).save(out / "0.png")
    content, untouched = (out / "0.png").read_bytes(), (out / "2.png").stat().st_mtime_ns
    result = assist(photos, data, out, tiny, "transfer.k=1")
    assert (out / "0.png").read_bytes() == content and (out / "1.png").read_bytes() == b"drawn by hand"
    assert "kept 0.png" in result.stderr and "kept 1.png" in result.stderr
    assert (out / "2.png").stat().st_mtime_ns != untouched  # other settings, another proposal
    found = listed(out)
    assert sorted(found["kept"]) == ["0.png", "1.png"]
    assert {entry["photo"] for entry in found["next"]} == {"2.jpg", "3.jpg", "more/4.png"}


def test_a_run_goes_on_where_one_stopped(
    photos: Path, data: Path, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from segmentation.assist.record import Record

    out, publish, calls = tmp_path / "out", Record.publish, []

    def stop(self: Record, names: Any, *more: Any) -> list[str]:
        calls.append(list(names))
        if len(calls) > 2:  # the thread that writes may begin another one
            raise KeyboardInterrupt
        return publish(self, calls[-1], *more)

    with monkeypatch.context() as patched:
        patched.setattr(Record, "publish", stop)
        stopped = run("assist", photos, "--labels", data, "--out", out, "--config", tiny)
    assert stopped.exit_code == 130
    done = {path: path.stat().st_mtime_ns for path in out.glob("*.png")}
    assert len(done) == 2
    assist(photos, data, out, tiny)
    assert all(path.stat().st_mtime_ns == time for path, time in done.items())
    assert len(listed(out)["next"]) == 5
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.png")}
    assist(photos, data, out, tiny)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.png")} == before


def test_new_labels_are_added_and_changed_ones_replaced(photos: Path, tiny: Path, tmp_path: Path) -> None:
    data, out = write_photos(tmp_path / "data"), tmp_path / "out"
    assist(photos, data, out, tiny)
    shutil.copy(photos / "0.jpg", data / "images")
    Image.fromarray(np.zeros((40, 60), dtype=np.uint8)).save(data / "masks" / "0.png")
    Image.fromarray(np.ones((48, 70), dtype=np.uint8)).save(data / "masks" / "photo1.png")
    result = assist(photos, data, out, tiny)
    assert "memory of 4 images (1 added, 1 with new labels)" in result.stdout
    assert sorted(listed(out)["labelled"]) == ["0.jpg", "known.png"]
    with IndexFolder.open(out / "memory.index").index() as index:
        numbers = [r.number for r in IndexFolder.open(out / "memory.index").records if r.id == "photo1"]
        rows = next(iter(index.stream()))
        own = rows.labels[rows.patches[:, 0] == numbers[-1]]
        assert len(own) and (own[:, 1] == 255).all()


def test_each_memory_gets_the_labels_that_it_lacks(photos: Path, tiny: Path, tmp_path: Path) -> None:
    data, out = write_photos(tmp_path / "data"), tmp_path / "out"
    one, two = ("--index", tmp_path / "one.index"), ("--index", tmp_path / "two.index")
    assist(photos, data, out, tiny, *one)
    Image.fromarray(np.ones((48, 70), dtype=np.uint8)).save(data / "masks" / "photo1.png")
    time.sleep(1.1)  # memories are told apart by the second in which they were built
    assist(photos, data, out, tiny, *two)
    assert "(0 added, 1 with new labels)" in assist(photos, data, out, tiny, *one).stdout
    assert "(0 added, 0 with new labels)" in assist(photos, data, out, tiny, *two).stdout


def test_photos_may_be_the_data_sets_own(tiny: Path, tmp_path: Path) -> None:
    data = write_photos(tmp_path / "data")
    (data / "masks" / "photo2.png").unlink()
    assist(data / "images", data, tmp_path / "out", tiny)
    assert [entry["photo"] for entry in listed(tmp_path / "out")["next"]] == ["photo2.png"]


def test_what_cannot_be_is_said(photos: Path, data: Path, tiny: Path, tmp_path: Path) -> None:
    def error(folder: Path, labels: Path, out: Path, *more: object) -> str:
        return error_of(run("assist", folder, "--labels", labels, "--out", out, "--config", tiny, *more))

    (tmp_path / "empty").mkdir()
    out = tmp_path / "out"
    assert "holds no images" in error(tmp_path / "empty", data, out)
    assert "expected a folder of photos" in error(tmp_path / "nowhere", data, out)
    assert "would be taken for photos" in error(photos, data, photos)
    assert "would be taken for photos" in error(photos, data, photos / "masks")
    assert "would be taken for labels" in error(photos, data, data / "more")
    assert "would be taken for photos" in error(data, data, out)
    assert "no layout that is known" in error(photos, tmp_path / "empty", out)
    assert "unknown export format" in error(photos, data, out, "--export", "cocoa")
    unmasked = write_photos(tmp_path / "unmasked")
    for mask in (unmasked / "masks").iterdir():
        mask.unlink()
    assert error(photos, unmasked, out)
    (photos / "next.jpg").write_bytes((photos / "0.jpg").read_bytes())
    assert "rename the photo" in error(photos, data, out, "--export", "labelme")
    assert not out.exists()
