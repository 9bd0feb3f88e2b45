from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from indexer.images import make_geometry
from indexer.recipe import Recipe, override_recipe
from retrieval.classes import ClassInfo, ClassMap
from retrieval.errors import ConfigError, DatasetError, IndexMismatchError, MaskError
from segmentation import evaluate
from segmentation.scoring.peers import protocol_note, truth_at_input


@pytest.fixture
def scenes(scene):
    return [scene(seed, (48 + 5 * seed, 90 - 7 * seed)) for seed in range(5)]


def strict_json(report) -> dict:
    return json.loads(json.dumps(report.to_json(), allow_nan=False))


def test_scores_what_the_masks_say(world, dataset, scenes) -> None:
    subject, data = world(), dataset(scenes)
    report = evaluate(subject, data)
    assert report.images == 5 and not report.skipped
    expected = np.zeros((4, 4), dtype=np.int64)
    for photo, columns in scenes:
        np.add.at(expected, (columns.ravel(), subject.segment(photo).columns.ravel()), 1)
    np.testing.assert_array_equal(report.confusion, expected)
    assert report.miou > 0.9
    assert report.hummingbird_miou is None
    assert [score.id for score in report.per_image] == [f"scene-{n}" for n in range(5)]


def test_unlabelled_pixels_do_not_count(world, dataset, scenes) -> None:
    scenes[0][1][:10] = -1
    report = evaluate(world(), dataset(scenes))
    assert report.confusion.sum() == sum(int((columns >= 0).sum()) for _, columns in scenes)


def test_swapped_classes_score_low_but_not_by_the_peers_protocol(world, dataset, scenes, classes) -> None:
    swapped = [(photo, np.array([2, 1, 0, 3])[columns]) for photo, columns in scenes]
    assert {0, 2} <= set(np.unique(np.concatenate([columns.ravel() for _, columns in scenes])))
    fair = evaluate(world(), dataset(scenes, name="fair"), protocol="hummingbird")
    report = evaluate(world(), dataset(swapped, name="swapped"), protocol="hummingbird")
    assert report.per_class["sky"] < 0.1 and report.per_class["tree"] < 0.1
    assert report.miou < fair.miou - 0.3
    assert report.hummingbird_miou == pytest.approx(fair.hummingbird_miou)
    assert report.hummingbird_miou > report.miou + 0.3


def test_the_peers_number_counts_absent_classes_as_zero(world, dataset, scene) -> None:
    photo, columns = scene(0, (64, 96))
    report = evaluate(world(), dataset([(photo, columns)]), protocol="hummingbird")
    present = np.unique(columns).size
    assert present < 4
    assert report.miou > 0.9
    assert report.hummingbird_miou <= present / 4


def test_classes_are_matched_by_id(world, dataset, scenes, classes) -> None:
    order = [3, 1, 0, 2]
    shuffled = ClassMap(tuple(classes.classes[i] for i in order), classes.ignore)
    column_of = np.argsort(order)
    moved = [(photo, column_of[columns]) for photo, columns in scenes]
    plain = evaluate(world(), dataset(scenes, name="plain"))
    other = evaluate(world(), dataset(moved, name="moved", classes=shuffled))
    assert other.per_class == plain.per_class
    np.testing.assert_array_equal(other.confusion, plain.confusion)


def test_other_classes_are_refused(world, dataset, scenes, classes) -> None:
    renamed = (replace(classes.classes[0], name="heaven"), *classes.classes[1:])
    data = dataset(scenes, classes=ClassMap(renamed, classes.ignore))
    with pytest.raises(IndexMismatchError, match="id 9 is 'sky' in the index and 'heaven' in the data set"):
        evaluate(world(), data)
    more = ClassMap((*classes.classes, ClassInfo(1, "cow", (1, 2, 3))), classes.ignore)
    with pytest.raises(IndexMismatchError, match="id 1 is no such class in the index and 'cow'"):
        evaluate(world(), replace(data, classes=more))


def test_a_missing_file_is_noticed_before_any_work(world, dataset, scenes, monkeypatch) -> None:
    data, subject = dataset(scenes), world()
    data.samples[-1].labels.path.unlink()
    monkeypatch.setattr(subject, "segment_many", pytest.fail)
    with pytest.raises(MaskError, match="does not exist"):
        evaluate(subject, data)


def test_bad_images_stop_or_are_skipped(world, dataset, scenes) -> None:
    data = dataset(scenes)
    data.samples[1].image.write_bytes(b"no image")
    Image.fromarray(np.zeros((3, 3), dtype=np.uint8)).save(data.samples[4].labels.path)
    with pytest.raises(Exception, match=r"1\.png"):
        evaluate(world(), data)
    report = evaluate(world(), data, skip_bad=True)
    assert [image.id for image in report.skipped] == ["scene-1", "scene-4"]
    assert [score.id for score in report.per_image] == ["scene-0", "scene-2", "scene-3"]
    expected = evaluate(world(), replace(data, samples=(data.samples[0], *data.samples[2:4])))
    np.testing.assert_array_equal(report.confusion, expected.confusion)
    assert strict_json(report)["skipped"][0]["id"] == "scene-1"


def test_nothing_usable_is_an_error(world, dataset, scenes) -> None:
    data = dataset(scenes[:1])
    data.samples[0].labels.path.unlink()
    with pytest.raises(MaskError):
        evaluate(world(), data)
    with pytest.raises(DatasetError, match="no image of scenes could be used"):
        evaluate(world(), data, skip_bad=True)


def test_an_unknown_protocol_is_refused(world, dataset, scenes) -> None:
    with pytest.raises(ConfigError, match="standard, hummingbird"):
        evaluate(world(), dataset(scenes), protocol="colibri")


def test_json_is_strict_and_complete(world, dataset, scene) -> None:
    photo, columns = scene(0, (40, 60))
    subject = world(k=3)
    data = strict_json(evaluate(subject, dataset([(photo, columns)])))
    assert set(data) >= {"miou", "per_class", "images", "protocol", "seconds", "recipe", "hummingbird_miou"}
    assert 0 <= data["miou"] <= 1
    assert None in data["per_class"].values()  # a class in neither truth nor prediction
    assert data["protocol"] == "standard" and data["hummingbird_miou"] is None
    assert data["recipe"]["transfer"]["k"] == 3
    assert data["recipe"]["backbone"]["block"] == -1  # defaults are spelled out
    assert data["index"]["rows"] == len(subject.index)
    assert np.sum(data["confusion"]) == columns.size
    assert "torch" in data["versions"]


def test_an_image_without_labels_scores_null(world, dataset, scenes) -> None:
    scenes[2][1][:] = -1
    data = strict_json(evaluate(world(), dataset(scenes)))
    assert data["per_image"][2]["miou"] is None
    assert data["images"] == 5


def test_rows_are_the_table_per_class(world, dataset, scenes, classes) -> None:
    report = evaluate(world(), dataset(scenes))
    rows = report.rows()
    assert tuple(row.name for row in rows) == classes.names
    assert {row.name: row.iou for row in rows} == report.per_class
    assert sum(row.truth for row in rows) == pytest.approx(1)
    assert sum(row.predicted for row in rows) == pytest.approx(1)


@pytest.mark.parametrize("fit", ["stretch", "pad"])
@pytest.mark.parametrize(
    ("source", "size"),
    [
        ((37, 53), (24, 24)),
        ((53, 37), (24, 32)),
        ((19, 23), (112, 126)),
        ((375, 500), (224, 224)),
        ((333, 500), (504, 504)),
        ((281, 335), (512, 448)),
        ((62, 496), (224, 224)),  # where rounding in float32 decides
        ((1, 7), (14, 14)),
    ],
)
def test_masks_take_the_pixels_of_torchs_nearest(source, size, fit) -> None:
    columns = np.arange(source[0] * source[1], dtype=np.int32).reshape(source)  # every pixel is told apart
    geometry = make_geometry(source, size, fit=fit)
    seen = truth_at_input(columns, geometry)
    height, width = geometry.content
    asked = torch.from_numpy(columns)[None, None].float()
    expected = torch.nn.functional.interpolate(asked, size=(height, width), mode="nearest")[0, 0]
    np.testing.assert_array_equal(seen[:height, :width], expected.numpy().astype(np.int32))
    assert (seen.dtype, seen.shape) == (np.int32, size)
    assert (seen[height:] == -1).all() and (seen[:, width:] == -1).all()


def test_the_peers_score_of_a_standard_memory_has_a_note() -> None:
    standard, theirs = Recipe(), override_recipe(Recipe(), ["bank.protocol=hummingbird"])
    assert protocol_note(standard, "standard") is None
    assert protocol_note(theirs, "hummingbird") is None
    note = protocol_note(standard, "hummingbird")
    assert note is not None and "ignored pixels" in note and "bank.protocol=hummingbird" in note


def test_a_mask_of_the_inputs_size_stays_as_it_is() -> None:
    columns = np.random.default_rng(0).integers(-1, 9, (28, 42)).astype(np.int32)
    np.testing.assert_array_equal(truth_at_input(columns, make_geometry((28, 42), (28, 42))), columns)
