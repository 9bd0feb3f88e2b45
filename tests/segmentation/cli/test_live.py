"""The commands that change an index in its place, or make one of two."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from retrieval import IndexFolder, read_manifest
from segmentation import Classifier, Segmenter

from .command import error_of, run, write_photos


@pytest.fixture
def mine(index: Path, tmp_path: Path) -> Path:
    """The index of photo0 to photo2, to change."""
    return Path(shutil.copytree(index, tmp_path / "mine.index"))


@pytest.fixture
def five(tmp_path: Path) -> Path:
    """photo0 to photo4."""
    return write_photos(tmp_path / "five", count=5)


def ids(index: Path) -> list[str]:
    return [record.id for record in IndexFolder.open(index).records if not record.removed]


def test_images_are_added_and_counted(mine: Path, five: Path) -> None:
    result = run("index", "add", mine, five, "runtime.batch_size=2")
    assert result.exit_code == 0, result.output
    assert f"{mine}: added 2 images, 32 rows" in result.stdout
    assert "3 images were there already" in result.stderr and "index replace" in result.stderr
    assert ids(mine) == [f"photo{n}" for n in range(5)]
    again = run("index", "add", mine, five)
    assert "added 0 images" in again.stdout and "5 images were there already" in again.stderr


def test_only_the_runtime_can_be_chosen(mine: Path, five: Path) -> None:
    assert "features.kind cannot be changed here" in error_of(
        run("index", "add", mine, five, "features.kind=embeddings")
    )


def test_a_bad_image_can_be_skipped(mine: Path, five: Path) -> None:
    (five / "images" / "photo3.png").write_bytes(b"no image")
    assert "photo3" in error_of(run("index", "add", mine, five))
    result = run("index", "add", mine, five, "--skip-bad")
    assert "added 1 image, 16 rows" in result.stdout and "skipped 1 bad image" in result.stderr


def test_images_get_other_masks(mine: Path, five: Path) -> None:
    for number in range(5):
        Image.fromarray(np.ones((48, 70), np.uint8)).save(five / "masks" / f"photo{number}.png")
    result = run("index", "replace", mine, five)
    assert "added 2 images, replaced 3 images, 80 rows" in result.stdout
    with Segmenter.open(mine) as segmenter:
        assert (segmenter.segment(five / "images" / "photo0.png").mask == 1).all()
    again = run("index", "replace", mine, five)
    assert "replaced 5 images" in again.stdout and len(ids(mine)) == 5


def test_classes_are_renamed_from_pairs_or_a_file(mine: Path, tmp_path: Path) -> None:
    result = run("index", "relabel", mine, "--map", "dark=bright, bright=dark")
    assert f"{mine}: 2 classes: bright, dark" in result.stdout
    assert read_manifest(mine).classes.ids.tolist() == [0, 1]
    (tmp_path / "names.json").write_text(json.dumps({"bright": "a, b", "dark": "a, b"}))
    assert "1 class: a, b" in run("index", "relabel", mine, "--map", tmp_path / "names.json").stdout
    assert "did you mean 'a, b'?" in error_of(run("index", "relabel", mine, "--map", "a b=c"))
    assert "should be OLD=NEW" in error_of(run("index", "relabel", mine, "--map", "a b"))
    assert "two names" in error_of(run("index", "relabel", mine, "--map", "x=y", "--map", "x=z"))


def test_two_indexes_become_one(mine: Path, five: Path, tiny: Path, tmp_path: Path) -> None:
    for part in ("images", "masks"):
        for number in range(3):
            (five / part / f"photo{number}.png").unlink()
    other, out = tmp_path / "other.index", tmp_path / "out.index"
    config = ("--config", tiny, "objective.kind=kl")
    assert run("index", "build", five, *config, "--out", other).exit_code == 0
    problem = error_of(run("index", "merge", mine, other, "--out", out))
    assert "recipe of the features" in problem and not out.exists()
    first = tmp_path / "first.index"
    assert run("index", "build", write_photos(tmp_path / "three"), *config, "--out", first).exit_code == 0
    result = run("index", "merge", first, other, "--out", out, "--to", "exact")
    assert result.exit_code == 0, result.output
    assert f"{out}: 80 rows of 5 images" in result.stdout
    assert ids(out) == [f"photo{n}" for n in range(5)]
    assert run("index", "verify", out).exit_code == 0
    assert "holds an index already" in error_of(run("index", "merge", first, other, "--out", out))
    assert "photo0" in error_of(run("index", "merge", out, first, "--out", tmp_path / "twice"))


def test_support_banks_that_were_fitted_apart_are_named(
    mine: Path, five: Path, tiny: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.index"
    assert run("index", "build", five, "--config", tiny, "--out", other).exit_code == 0
    problem = error_of(run("index", "merge", mine, other, "--out", tmp_path / "out"))
    assert "the support bank of" in problem and "were fitted apart" in problem and "index add" in problem


def test_info_tells_what_came_after_the_fit(data: Path, tiny: Path, five: Path, tmp_path: Path) -> None:
    index = tmp_path / "metric.index"
    settings = ("features.metric=class", "features.width=4")
    assert run("index", "build", data, "--config", tiny, "--out", index, *settings).exit_code == 0
    assert run("index", "add", index, five).exit_code == 0
    assert run("index", "replace", index, data).exit_code == 0
    assert "80 of 80 patches (100.0%) were added after that" in run("index", "info", index).stdout
    assert "gone" not in run("index", "info", index).stdout
    assert run("index", "relabel", index, "--map", "dark=black").exit_code == 0
    assert run("index", "add", index, five).exit_code == 1  # its mask's class `dark` is another one now


def test_a_service_sees_an_image_after_refresh(mine: Path, five: Path) -> None:
    with Segmenter.open(mine) as segmenter:
        assert not segmenter.refresh()
        photo = five / "images" / "photo4.png"
        assert run("index", "add", mine, five).exit_code == 0
        assert segmenter.refresh() and not segmenter.refresh()
        found = segmenter.segment(photo).explain(2, 2)[0]
        assert found.image_id == "photo4" and found.similarity > 0.99 and found.thumbnail is not None
        assert len(segmenter.images) == 5


def test_what_could_not_be_taken_is_taken_by_the_next_refresh(
    mine: Path, five: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Segmenter.open(mine) as segmenter:
        assert run("index", "add", mine, five).exit_code == 0
        with monkeypatch.context() as patched:
            patched.setattr(IndexFolder, "refresh", lambda self: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                segmenter.refresh()
        assert segmenter.refresh() and len(segmenter.images) == 5
        assert not segmenter.refresh()


def test_a_classifier_sees_an_image_after_refresh(five: Path, tiny: Path, tmp_path: Path) -> None:
    for number in range(5):
        folder = tmp_path / ("more" if number > 2 else "first") / f"kind {number % 3}"
        folder.mkdir(parents=True)
        shutil.copyfile(five / "images" / f"photo{number}.png", folder / f"{number}.png")
    index = tmp_path / "whole.index"
    whole = ("--config", tiny, "objective.kind=kl")
    assert run("index", "build", tmp_path / "first", "--out", index, *whole).exit_code == 0
    with Classifier.open(index) as classifier:
        assert run("index", "add", index, tmp_path / "more").exit_code == 0
        assert run("index", "relabel", index, "--map", "kind 0=other").exit_code == 0
        assert classifier.refresh() and "other" in classifier.classes.names
        best = classifier.classify(five / "images" / "photo3.png").matches(1)[0]
        assert best.image_path.endswith("3.png")


def test_names_of_a_file_are_taken_without_space_around_them(mine: Path, tmp_path: Path) -> None:
    (tmp_path / "names.json").write_text('{"dark": " night "}')
    assert run("index", "relabel", mine, "--map", tmp_path / "names.json").exit_code == 0
    assert IndexFolder.open(mine).manifest.classes.names == ("night", "bright")
