"""A labelled data set is scored, and what flatters or spoils the score is said."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from indexer.datasets import MaskFile
from retrieval import ClassInfo, ClassMap
from retrieval.errors import ConfigError, DatasetError, ImageError
from retrieval.progress import ProgressEvent
from segmentation.classification import Classifier
from segmentation.classification.evaluate import evaluate_classes

from .toy import CLASSES, build_memory, make_dataset, photo, save, write_memory

#: Other ids and another order than the memory's, and a class that it lacks.
THEIRS = ClassMap(
    (
        ClassInfo(0, "leaf", (0, 0, 0)),
        ClassInfo(1, "moon", (0, 0, 0)),
        ClassInfo(2, "rose", (0, 0, 0)),
        ClassInfo(3, "sea", (0, 0, 0)),
    )
)


def write_photos(root: Path) -> list[tuple[Path, tuple[int, ...]]]:
    names = ["leaf", "leaf", "rose", "sea"]
    return [
        (save(root / f"{name}-{n}.png", photo(name, 200 + n)), (THEIRS.names.index(name),))
        for n, name in enumerate(names)
    ]


def test_classes_are_matched_by_name(memory: Path, tmp_path: Path) -> None:
    images = write_photos(tmp_path / "val")
    events: list[ProgressEvent] = []
    with Classifier.open(memory) as classifier:
        report = evaluate_classes(classifier, make_dataset(tmp_path, images, THEIRS), progress=events.append)
    assert (report.top1, report.top5, report.images, report.top1_error) == (1.0, 1.0, 4, 0.0)
    assert report.names == ("rose", "leaf", "sea", "moon") and report.missing == ()
    assert np.diag(report.confusion).tolist() == [1, 2, 1, 0] and report.confusion.sum() == 4
    assert report.mean_average_precision is None and report.notes == () and report.worst == ()
    assert (events[-1].event, events[-1].done, events[-1].total) == ("end", 4, 4)
    assert json.loads(json.dumps(report.to_json(), allow_nan=False))["top1"] == 1.0


def test_mistakes_are_kept_with_their_neighbours(memory: Path, tmp_path: Path) -> None:
    images = write_photos(tmp_path / "val")
    images[0] = (images[0][0], (3,))  # a leaf that is called sea
    moon = (save(tmp_path / "val" / "moon.png", photo((210, 40, 40), 1)), (1,))
    with Classifier.open(memory) as classifier:
        report = evaluate_classes(classifier, make_dataset(tmp_path, [*images, moon], THEIRS))
    assert report.top1 == pytest.approx(3 / 5)
    assert {mistake.id: (mistake.truth, mistake.best) for mistake in report.worst} == {
        "leaf-0": (("sea",), "leaf"),
        "moon": (("moon",), "rose"),
    }
    assert all(len(m.neighbours) == 3 and m.neighbours[0].classes == (m.best,) for m in report.worst)
    assert report.missing == ("moon",) and report.missing_images == 1
    assert "no image of moon: 1 of 5 images" in report.notes[0]
    assert report.balanced == pytest.approx((1 + 1 + 0.5 + 0) / 4)


def test_images_of_the_memory_leave_themselves_out(tmp_path: Path, toy: None) -> None:
    images = write_memory(tmp_path / "memory", 3)
    wrong = (images[0][0], ("sea",))  # a rose that the memory calls sea
    data = [(path, (CLASSES.names.index(names[0]),)) for path, names in [wrong, *images[1:]]]
    index = build_memory(tmp_path / "i", [wrong, *images[1:]])
    dataset = make_dataset(tmp_path, data, CLASSES)
    with Classifier.open(index, k=1) as classifier:
        flattered = evaluate_classes(classifier, dataset)
        honest = evaluate_classes(classifier, dataset, leave_out=True)
    assert flattered.top1 == 1.0 and flattered.in_memory == 9 and "flatters" in flattered.notes[0]
    assert not honest.per_image[0].right and honest.per_image[0].best == "rose"
    assert honest.notes == ("9 of 9 images are in the memory, and each was scored without itself",)
    alone = build_memory(tmp_path / "one", images[:1])
    with Classifier.open(alone) as classifier, pytest.raises(ConfigError, match="at least two images"):
        evaluate_classes(classifier, dataset, leave_out=True)


def test_images_of_several_classes_and_of_none(memory: Path, tmp_path: Path) -> None:
    images = [*write_photos(tmp_path / "val"), (save(tmp_path / "no.png", photo("sea", 1)), ())]
    images[0] = (images[0][0], (0, 2))
    with Classifier.open(memory) as classifier:
        report = evaluate_classes(classifier, make_dataset(tmp_path, images, THEIRS))
    assert report.top1 == 1.0 and report.unlabelled == 1 and report.images == 4
    assert report.mean_average_precision is not None and 0.5 < report.mean_average_precision <= 1
    assert report.per_image[0].truth == ("leaf", "rose") and report.confusion.sum() == 3


def test_bad_images_are_skipped_only_when_told(memory: Path, tmp_path: Path) -> None:
    images: list[Any] = write_photos(tmp_path / "val")
    images[1][0].write_bytes(b"no image")
    dataset = make_dataset(tmp_path, images, THEIRS)
    with Classifier.open(memory) as classifier:
        with pytest.raises(ImageError, match=r"leaf-1\.png"):
            evaluate_classes(classifier, dataset)
        report = evaluate_classes(classifier, dataset, skip_bad=True)
        assert report.images == 3 and [id for id, _ in report.skipped] == ["leaf-1"]
        with pytest.raises(DatasetError, match="no image to score"):
            evaluate_classes(classifier, make_dataset(tmp_path, images[1:2], THEIRS), skip_bad=True)


def test_images_of_every_fate_are_counted_once_and_one_at_a_time(
    memory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("segmentation.classification.evaluate.QUERIES", 1)
    images: list[tuple[Path, tuple[int, ...]]] = []
    for round in range(8):  # scored, without a class, and unreadable ones are counted in two threads
        images += write_photos(tmp_path / f"val{round}")
        images += [(save(tmp_path / f"no{round}.png", photo("sea", 1)), ())]
        images[-2][0].write_bytes(b"no image")
    inside, done = threading.Lock(), []

    def listen(event: ProgressEvent) -> None:
        assert inside.acquire(blocking=False), "two events at once"
        time.sleep(0.001)
        done.append(event.done)
        inside.release()

    with Classifier.open(memory) as classifier:
        dataset = make_dataset(tmp_path, images, THEIRS)
        report = evaluate_classes(classifier, dataset, skip_bad=True, progress=listen)
    assert (report.images, report.unlabelled, len(report.skipped)) == (24, 8, 8)
    assert done == [0, *range(1, 41), 40]


def test_an_image_whose_mask_is_all_void_has_no_class(memory: Path, tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "val")
    dataset = make_dataset(tmp_path, photos, THEIRS)
    mask = save(tmp_path / "void.png", np.full((30, 40), 255, dtype=np.uint8))
    classes = ClassMap(THEIRS.classes, ignore=(255,))
    void = replace(dataset.samples[0], labels=MaskFile(mask, classes))
    dataset = replace(dataset, samples=(void, *dataset.samples[1:]))
    with Classifier.open(memory) as classifier:
        report = evaluate_classes(classifier, dataset)
    assert (report.unlabelled, report.images, report.skipped) == (1, len(photos) - 1, ())
