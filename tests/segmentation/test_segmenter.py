from __future__ import annotations

import threading
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from indexer.recipe import RuntimeSettings, recipe_from_dict
from retrieval import IndexFolder, read_manifest, write_manifest
from retrieval.classes import ClassMap
from retrieval.errors import ConfigError, ImageError, IndexFileError
from retrieval.neighbors import Filter
from segmentation import Segmenter, segmenter
from segmentation.description import Description
from segmentation.upsample import classes_at


def test_segments_an_unseen_scene(world, scene, classes) -> None:
    photo, columns = scene(1, (64, 96))
    result = world().segment(photo)
    assert result.mask.dtype == np.uint8
    assert (result.mask == classes.ids[columns]).mean() > 0.97
    assert (result.columns == columns).mean() > 0.97
    assert result.confidence.dtype == np.float32
    assert result.confidence.min() >= 0 and result.confidence.max() <= 1
    sure = result.confidence[(result.columns == columns)].mean()
    assert sure > result.confidence[(result.columns != columns)].mean()


@pytest.mark.parametrize("fit", ["stretch", "pad"])
@pytest.mark.parametrize("size", [(1, 1), (3, 200), (97, 5), (33, 47), (127, 64), (31, 61)])
def test_the_mask_has_the_size_of_the_photo(world, scene, fit, size) -> None:
    photo, columns = scene(2, size)
    result = world(image={"fit": fit}).segment(photo)
    assert result.mask.shape == result.confidence.shape == result.columns.shape == size == result.size
    if min(size) > 30:  # the way back loses no border: every area is found where it was
        assert (result.columns == columns).mean() > 0.9


def test_a_batch_equals_its_images_one_by_one(world, scene) -> None:
    subject = world()
    photos = [scene(seed, (40 + seed, 70 - seed))[0] for seed in range(5)]  # more than one batch of 3
    together = list(subject.segment_many(enumerate(photos)))
    assert [key for key, _ in together] == [0, 1, 2, 3, 4]
    for photo, (_, result) in zip(photos, together, strict=True):
        alone = subject.segment(photo)
        np.testing.assert_array_equal(result.mask, alone.mask)
        np.testing.assert_allclose(result.confidence, alone.confidence, atol=1e-6)


def test_many_photos_give_bit_for_bit_what_one_gives(world, scene) -> None:
    subject = world(runtime={"batch_size": 1})
    photos = [scene(seed, (40 + seed, 70 - seed))[0] for seed in range(7)]
    for photo, (_, result) in zip(photos, subject.segment_many(enumerate(photos)), strict=True):
        alone = subject.segment(photo)
        for name in ("mask", "confidence", "columns", "shares", "vote_shares"):
            np.testing.assert_array_equal(getattr(result, name), getattr(alone, name))
        np.testing.assert_array_equal(result.neighbors.ids, alone.neighbors.ids)
        np.testing.assert_array_equal(result.neighbors.similarities, alone.neighbors.similarities)


def test_sources_are_taken_at_most_two_batches_early(world, scene) -> None:
    taken = []

    def photos():
        for seed in range(30):
            taken.append(seed)
            yield seed, scene(seed, (20, 30))[0]

    results = world().segment_many(photos())
    for number in range(15):
        next(results)
        assert len(taken) <= 3 * (number // 3) + 9
    results.close()
    assert len(taken) <= 21
    assert next(results, None) is None


def test_a_bad_photo_comes_after_the_batches_before_it(world, scene) -> None:
    photos = [scene(seed, (20, 30))[0] for seed in range(5)] + [np.zeros((0, 3, 3), np.uint8)]
    results = world().segment_many(enumerate(photos))
    assert len([next(results) for _ in range(3)]) == 3
    with pytest.raises(ImageError):  # of its batch of three, none
        next(results)


def test_the_index_is_searched_in_the_callers_thread(world, scene, monkeypatch) -> None:
    subject, threads = world(), []
    search = subject.index.search
    monkeypatch.setattr(
        subject.index, "search", lambda *a, **k: threads.append(threading.get_ident()) or search(*a, **k)
    )
    assert len(list(subject.segment_many((seed, scene(seed, (20, 30))[0]) for seed in range(4)))) == 4
    assert set(threads) == {threading.get_ident()}


def test_bad_photos_are_told_of_and_the_rest_goes_on(world, scene, tmp_path) -> None:
    subject, told = world(), []
    sources = {seed: scene(seed, (20, 30))[0] for seed in range(5)}
    sources |= {1: tmp_path / "nowhere.png", 3: lambda: tmp_path / "none.png"}
    results = dict(
        subject.segment_many(sources.items(), on_error=lambda key, error: told.append((key, error)))
    )
    assert list(results) == [0, 2, 4]
    assert [key for key, _ in told] == [1, 3]
    assert all(isinstance(error, ImageError) for _, error in told)
    assert "nowhere.png does not exist" in str(told[0][1])
    for key, result in results.items():
        np.testing.assert_array_equal(result.mask, subject.segment(sources[key]).mask)


def test_photos_are_read_when_their_turn_comes_in_the_thread_that_reads(world, scene) -> None:
    threads = []

    def read(seed: int) -> np.ndarray:
        threads.append(threading.get_ident())
        return scene(seed, (20, 30))[0]

    subject = world()
    results = list(subject.segment_many((seed, partial(read, seed)) for seed in range(4)))
    assert [key for key, _ in results] == [0, 1, 2, 3]
    assert threading.get_ident() not in threads and len(set(threads)) == 1
    np.testing.assert_array_equal(results[3][1].mask, subject.segment(partial(read, 3)).mask)


def test_errors_of_other_kinds_are_never_skipped(world) -> None:
    def broken() -> np.ndarray:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(world().segment_many([(0, broken)], on_error=lambda *_: pytest.fail("it is a bug")))


def test_a_photo_is_described_once_and_labelled_often(world, scene, monkeypatch) -> None:
    subject, photo = world(), scene(1, (40, 61))[0]
    described = subject.describe(photo)
    assert described.size == (40, 61)
    (view,) = described.views
    assert view.vectors.shape == (24, 4) and view.vectors.dtype == np.float32
    assert view.geometry.source == (40, 61)
    expected = [
        world(k=k, transfer={"temperature": t}).segment(photo) for k, t in ((5, 0.05), (2, 0.05), (5, 1.0))
    ]
    monkeypatch.setattr(subject.extractor, "extract", pytest.fail)
    for settings, alone in zip(({}, {"k": 2}, {"temperature": 1.0}), expected, strict=True):
        result = subject.label(described, **settings)
        for name in ("mask", "confidence", "shares", "vote_shares"):
            np.testing.assert_array_equal(getattr(result, name), getattr(alone, name))
    for bad in ({"k": 0}, {"temperature": 0.0}):
        with pytest.raises(ConfigError, match="k of at least 1"):
            subject.label(described, **bad)


def test_a_filter_of_one_label_replaces_the_segmenters(world, scene) -> None:
    subject = world()
    described = subject.describe(scene(103, (64, 96))[0])
    subject.filter = Filter(not_images=[3])

    def voters(filter: Filter | None) -> set[str]:
        return {vote.image_id for vote in subject.label(described, filter=filter).explain(50, 10)}

    assert "memory-3" not in voters(None)
    assert voters(Filter(images=[3])) == {"memory-3"}
    assert "memory-3" in voters(Filter())


def test_many_descriptions_are_those_of_one(world, scene) -> None:
    subject = world(runtime={"batch_size": 1})
    photos = {f"photo {seed}": scene(seed, (40, 50 + seed))[0] for seed in range(4)}
    many = dict(subject.describe_many(photos.items()))
    assert list(many) == list(photos)
    for key, described in many.items():
        assert isinstance(described, Description)
        alone = subject.describe(photos[key])
        np.testing.assert_array_equal(described.views[0].vectors, alone.views[0].vectors)
        assert described.views[0].geometry == alone.views[0].geometry


def test_closed_means_closed(world, scene) -> None:
    subject, photo = world(), scene(0, (20, 30))[0]
    described = subject.describe(photo)
    running = subject.segment_many((seed, photo) for seed in range(20))
    next(running)
    subject.close()
    for ask in (
        lambda: subject.segment(photo),
        lambda: subject.describe(photo),
        lambda: subject.label(described),
        lambda: subject.segment_many([(0, photo)]),
        lambda: subject.describe_many([(0, photo)]),
        lambda: list(running),
    ):
        with pytest.raises(ConfigError, match="this segmenter is closed; open it again"):
            ask()
    subject.close()


def test_path_pillow_and_array_give_the_same(world, scene, tmp_path) -> None:
    subject, photo = world(), scene(3, (45, 61))[0]
    Image.fromarray(photo).save(tmp_path / "photo.png")
    for source in (tmp_path / "photo.png", str(tmp_path / "photo.png"), Image.fromarray(photo)):
        np.testing.assert_array_equal(subject.segment(source).mask, subject.segment(photo).mask)
    with pytest.raises(ImageError, match=r"nowhere\.png"):
        subject.segment(tmp_path / "nowhere.png")


def test_permuted_classes_give_the_same_mask(world, scene, classes) -> None:
    photo = scene(4, (50, 70))[0]
    order = [2, 0, 3, 1]
    shuffled = ClassMap(tuple(classes.classes[i] for i in order), classes.ignore)
    plain, permuted = world().segment(photo), world(classes=shuffled).segment(photo)
    np.testing.assert_array_equal(permuted.mask, plain.mask)
    np.testing.assert_allclose(permuted.shares, plain.shares[:, :, order], atol=1e-6)


def test_explain_names_the_patches_that_made_the_label(world, scene, classes) -> None:
    photo, _ = scene(5, (64, 96))
    result = world().segment(photo)
    votes = result.explain(20, 80)
    assert len(votes) == 5
    assert sum(vote.weight for vote in votes) == pytest.approx(1, abs=1e-6)
    assert [vote.weight for vote in votes] == sorted((vote.weight for vote in votes), reverse=True)
    assert result.patch_at(20, 80) == (1, 5)
    expected = dict.fromkeys(classes.names, 0.0)
    for vote in votes:
        assert sum(vote.label.values()) == pytest.approx(1)
        for name, share in vote.label.items():
            expected[name] += vote.weight * share
    np.testing.assert_allclose(result.shares[1, 5], list(expected.values()), atol=1e-5)


def test_explain_finds_the_very_patch_of_a_memory_image(world, scene) -> None:
    photo, _ = scene(103, (64, 96))  # the fourth memory image
    vote = world(transfer={"temperature": 1e-4}).segment(photo).explain(50, 10)[0]
    assert (vote.image_id, vote.image_path) == ("memory-3", "m3.png")
    assert vote.patch == (3, 0)
    assert vote.box == (48.0, 0.0, 64.0, 16.0)  # 32 x 48 pixels of input show 64 x 96 of the source
    assert vote.similarity == pytest.approx(1, abs=1e-5)


def test_boxes_follow_the_crop_of_an_augmented_epoch(world, scene) -> None:
    result = world().segment(scene(0, (20, 30))[0])
    records = result.book._images
    for number, record in list(records.items()):
        records[number] = replace(record, epoch=1, box=(32.0, 48.0, 64.0, 96.0))
    vote = result.explain(0, 0)[0]
    row, col = vote.patch
    expected = (32 + 8 * row, 48 + 8 * col, 40 + 8 * row, 56 + 8 * col)  # the crop halves what a patch shows
    assert vote.box == pytest.approx(expected)


@pytest.mark.parametrize("where", [(-1, 0), (40, 0), (0, 61), (0, -1)])
def test_explain_outside_the_photo_is_refused(world, scene, where) -> None:
    result = world().segment(scene(0, (40, 61))[0])
    assert result.explain(39, 60)
    with pytest.raises(ConfigError, match="outside the photo of 40 rows and 61 columns"):
        result.explain(*where)


def test_more_neighbours_than_patches(world, scene) -> None:
    subject = world(k=10**6)
    result = subject.segment(scene(6, (30, 30))[0])
    assert result.neighbors.k == len(subject.index) == len(result.explain(0, 0))


def test_removed_images_do_not_vote(world, scene) -> None:
    subject, photo = world(), scene(103, (64, 96))[0]
    subject.index.remove(3)
    votes = subject.segment(photo).explain(50, 10)
    assert votes and "memory-3" not in {vote.image_id for vote in votes}


def test_the_pixels_of_the_input_see_the_same_classes(world, scene) -> None:
    photo, _ = scene(7, (32, 48))  # the input's own size
    result = world().segment(photo)
    np.testing.assert_array_equal(result.columns_at_input(), result.columns)


@pytest.mark.parametrize("size", [(24, 48), (32, 40)])  # padding below, padding at the right
def test_padding_does_not_reach_into_the_photo(world, scene, size) -> None:
    photo, _ = scene(8, size)
    result = world(image={"fit": "pad"}).segment(photo)
    coordinates = result.geometry.grid_coordinates((8, 8))
    columns, confidence = classes_at(result.shares[: size[0] // 8, : size[1] // 8], *coordinates)
    np.testing.assert_array_equal(result.columns, columns)
    np.testing.assert_array_equal(result.confidence, confidence)
    assert not np.array_equal(confidence, classes_at(result.shares, *coordinates)[1])
    np.testing.assert_array_equal(result.columns_at_input()[: size[0], : size[1]], columns)


@pytest.mark.parametrize("bad", [{"k": 0}, {"temperature": 0.0}])
def test_impossible_transfer_is_refused(world, bad) -> None:
    subject = world()
    with pytest.raises(ConfigError, match="k of at least 1"):
        Segmenter(subject.index, subject.extractor, [], **bad)


def test_an_empty_index_is_refused(world) -> None:
    subject = world()
    for number in range(8):
        subject.index.remove(number)
    with pytest.raises(ConfigError, match="holds no patch"):
        Segmenter(subject.index, subject.extractor, [])


def test_open_takes_everything_from_the_index(index_on_disk, color_extractor, scene, monkeypatch) -> None:
    def open_extractor(folder, manifest, *, runtime=None):
        recipe = recipe_from_dict(manifest.recipe)
        return color_extractor(recipe if runtime is None else recipe.model_copy(update={"runtime": runtime}))

    monkeypatch.setattr(segmenter, "open_extractor", open_extractor)
    photo = scene(0, (64, 96))[0]
    with Segmenter.open(index_on_disk) as subject:
        assert (subject.k, subject.temperature) == (5, 0.05)
        assert subject.segment(photo).explain(0, 0)[0].image_id.startswith("memory-")
    runtime = RuntimeSettings(device="cpu", batch_size=1)
    with Segmenter.open(index_on_disk, k=2, temperature=0.5, runtime=runtime) as subject:
        assert len(subject.segment(photo).explain(0, 0)) == 2
        assert (subject.recipe.transfer.k, subject.recipe.transfer.temperature) == (2, 0.5)
        assert subject.recipe.runtime.batch_size == 1


def test_open_does_not_run_where_the_index_was_built(
    index_on_disk, color_extractor, scene, monkeypatch
) -> None:
    manifest = read_manifest(index_on_disk)
    recipe = {**manifest.recipe, "runtime": {"device": "cuda", "precision": "float16", "batch_size": 64}}
    write_manifest(index_on_disk, replace(manifest, recipe=recipe))
    asked = []

    def open_extractor(folder, manifest, *, runtime):
        asked.append(runtime)
        return color_extractor(recipe_from_dict(manifest.recipe).model_copy(update={"runtime": runtime}))

    monkeypatch.setattr(segmenter, "open_extractor", open_extractor)
    with Segmenter.open(index_on_disk) as subject:
        assert subject.recipe.runtime == RuntimeSettings()
        assert subject.segment(scene(0, (64, 96))[0]).mask.shape == (64, 96)
    with Segmenter.open(IndexFolder.open(index_on_disk), runtime=RuntimeSettings(batch_size=2)):
        assert asked == [RuntimeSettings(), RuntimeSettings(batch_size=2)]


def test_open_without_an_index_says_so(tmp_path: Path) -> None:
    with pytest.raises(IndexFileError, match="no index at"):
        Segmenter.open(tmp_path / "nothing")
