"""Labelled images that come into an index after its build."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from indexer import build_index, load_dataset
from indexer.bank import add
from indexer.bank.add import add_data
from indexer.datasets import Dataset
from indexer.recipe import Recipe
from retrieval import IndexFolder, open_index
from retrieval.errors import ConfigError, IndexBusyError, IndexFileError, MaskError

Folder = Callable[..., Dataset]
Tiny = Callable[..., Recipe]

NAMES = '{"classes": [{"id": %d, "name": "%s"}, {"id": %d, "name": "%s"}, {"id": %d, "name": "%s"}]}'


def part_of(data: Dataset, out: Path, numbers: range, names: str | None = None) -> Dataset:
    """A data set of some of the photos."""
    for part in ("images", "masks"):
        (out / part).mkdir(parents=True)
        for number in numbers:
            shutil.copyfile(data.root / part / f"photo{number}.png", out / part / f"photo{number}.png")
    if names is not None:
        (out / "classes.json").write_text(names)
    return load_dataset(out)


def rows_of(index: Path) -> dict[str, np.ndarray]:
    """What the live rows of every image are: vector, label and place, one row each."""
    with IndexFolder.open(index).index() as opened:
        names = {record.number: record.id for record in IndexFolder.open(index).records}
        found: dict[str, list[np.ndarray]] = {}
        for rows in opened.stream():
            for vector, label, patch in zip(rows.vectors, rows.labels, rows.patches, strict=True):
                found.setdefault(names[patch[0]], []).append(np.concatenate([vector, label, patch[1:]]))
    return {id: np.array(rows) for id, rows in found.items()}


@pytest.fixture
def six(labelled_folder: Folder) -> Dataset:
    return labelled_folder(6)


@pytest.fixture
def recipe(tiny_recipe: Tiny) -> Recipe:
    return tiny_recipe("index.engine=exact", "objective.kind=kl", "bank.max_patches=null")


def test_images_that_come_later_give_what_a_build_takes_from_them(
    six: Dataset, recipe: Recipe, tmp_path: Path
) -> None:
    build_index(six, tmp_path / "all", recipe=recipe)
    build_index(part_of(six, tmp_path / "four", range(4)), tmp_path / "grown", recipe=recipe)
    report = add_data(tmp_path / "grown", part_of(six, tmp_path / "two", range(4, 6)), commit_images=1)
    assert (report.added, report.replaced, report.there, report.classes) == (2, 0, 0, ())
    expected, found = rows_of(tmp_path / "all"), rows_of(tmp_path / "grown")
    assert list(found) == list(expected) == [f"photo{n}" for n in range(6)]
    for id, rows in expected.items():
        np.testing.assert_allclose(found[id], rows, atol=2e-3)
    assert IndexFolder.open(tmp_path / "grown").thumbnail(5) is not None
    assert report.rows == sum(len(expected[id]) for id in ("photo4", "photo5"))


def test_the_same_call_again_adds_nothing(six: Dataset, recipe: Recipe, tmp_path: Path) -> None:
    build_index(part_of(six, tmp_path / "two", range(2)), tmp_path / "index", recipe=recipe)
    assert add_data(tmp_path / "index", six).there == 2
    before = (tmp_path / "index" / "manifest.json").read_bytes()
    report = add_data(tmp_path / "index", six)
    assert (report.added, report.there, report.rows) == (0, 6, 0)
    assert (tmp_path / "index" / "manifest.json").read_bytes() == before


def test_an_index_takes_as_many_patches_of_a_new_image_as_its_build(
    six: Dataset, tiny_recipe: Tiny, tmp_path: Path
) -> None:
    recipe = tiny_recipe("index.engine=exact", "bank.max_patches=12")
    build_index(part_of(six, tmp_path / "four", range(4)), tmp_path / "index", recipe=recipe)
    assert add_data(tmp_path / "index", six).rows == 2 * 3


def test_new_masks_take_the_place_of_the_old_ones(six: Dataset, recipe: Recipe, tmp_path: Path) -> None:
    build_index(part_of(six, tmp_path / "four", range(4)), tmp_path / "index", recipe=recipe)
    other = part_of(six, tmp_path / "other", range(3, 5))
    Image.fromarray(np.full((68, 95), 2, np.uint8)).save(tmp_path / "other" / "masks" / "photo3.png")
    build_index(load_dataset(tmp_path / "other"), tmp_path / "fresh", recipe=recipe)
    report = add_data(tmp_path / "index", other, replace=True)
    assert (report.added, report.replaced, report.there) == (1, 1, 0)
    rows, expected = rows_of(tmp_path / "index"), rows_of(tmp_path / "fresh")
    assert set(rows) == {f"photo{n}" for n in range(5)}
    np.testing.assert_array_equal(rows["photo3"][:, -5:], expected["photo3"][:, -5:])
    assert (rows["photo3"][:, -5:-2] == (0, 0, 255)).all()


def test_another_file_under_a_known_id_is_refused(six: Dataset, recipe: Recipe, tmp_path: Path) -> None:
    build_index(part_of(six, tmp_path / "two", range(2)), tmp_path / "index", recipe=recipe)
    shutil.copyfile(six.root / "images" / "photo3.png", six.root / "images" / "photo1.png")
    with pytest.raises(ConfigError, match=r"another image with the id 'photo1' .*index replace"):
        add_data(tmp_path / "index", six)


def test_classes_are_joined_by_name_and_new_ones_appended(
    six: Dataset, recipe: Recipe, tmp_path: Path
) -> None:
    first = part_of(six, tmp_path / "a", range(3), NAMES % (0, "sky", 1, "road", 2, "tree"))
    second = part_of(six, tmp_path / "b", range(3, 6), NAMES % (0, "road", 1, "car", 2, "sky"))
    build_index(first, tmp_path / "index", recipe=recipe)
    with pytest.raises(ConfigError, match=r"'car' .* has the id 1, which is called 'road' in the index"):
        add_data(tmp_path / "index", second)
    report = add_data(tmp_path / "index", second, new_ids=True)
    assert report.classes == ("car",)
    manifest = IndexFolder.open(tmp_path / "index").manifest
    assert [(info.name, info.id) for info in manifest.classes.classes] == [
        ("sky", 0),
        ("road", 1),
        ("tree", 2),
        ("car", 3),
    ]
    build_index(second, tmp_path / "alone", recipe=recipe)
    alone, grown = rows_of(tmp_path / "alone"), rows_of(tmp_path / "index")
    np.testing.assert_array_equal(grown["photo4"][:, -6:-2][:, [1, 3, 0]], alone["photo4"][:, -5:-2])
    assert (grown["photo4"][:, -4] == 0).all() and (grown["photo0"][:, -3] == 0).all()


def test_classes_that_nobody_named_have_to_be_those_of_the_index(
    six: Dataset, recipe: Recipe, tmp_path: Path
) -> None:
    named = part_of(six, tmp_path / "a", range(3), NAMES % (0, "sky", 1, "road", 2, "tree"))
    build_index(named, tmp_path / "index", recipe=recipe)
    with pytest.raises(ConfigError, match=r"classes\.json"):
        add_data(tmp_path / "index", six, new_ids=True)


def test_bad_images_are_skipped_where_asked(six: Dataset, recipe: Recipe, tmp_path: Path) -> None:
    build_index(part_of(six, tmp_path / "two", range(2)), tmp_path / "index", recipe=recipe)
    Image.fromarray(np.zeros((5, 5), np.uint8)).save(six.root / "masks" / "photo4.png")
    with pytest.raises(MaskError, match="5 high and 5 wide"):
        add_data(tmp_path / "index", six, commit_images=1)
    assert len(rows_of(tmp_path / "index")) == 4  # what was committed stays
    report = add_data(tmp_path / "index", six, skip_bad=True)
    assert (report.added, report.there) == (1, 4)
    assert [image.id for image in report.skipped] == ["photo4"]


def test_a_fitted_metric_stays_and_a_new_class_does_not_unfit_it(
    six: Dataset, tiny_recipe: Tiny, tmp_path: Path
) -> None:
    recipe = tiny_recipe(
        "index.engine=exact", "features.metric=class", "features.width=8", "bank.max_patches=null"
    )
    first = part_of(six, tmp_path / "a", range(3), NAMES % (0, "sky", 1, "road", 2, "tree"))
    second = part_of(six, tmp_path / "b", range(3, 6), NAMES % (0, "sky", 1, "road", 2, "car"))
    build_index(first, tmp_path / "index", recipe=recipe)
    features = (tmp_path / "index" / "features.safetensors").read_bytes()
    add_data(tmp_path / "index", second, new_ids=True)
    assert add_data(tmp_path / "index", second, new_ids=True).there == 3  # and it opens again
    assert (tmp_path / "index" / "features.safetensors").read_bytes() == features
    with open_index(tmp_path / "index") as opened:
        assert opened.classes.names == ("sky", "road", "tree", "car")


def test_data_of_whole_images_does_not_go_into_an_index_of_patches(
    six: Dataset, recipe: Recipe, tmp_path: Path
) -> None:
    build_index(part_of(six, tmp_path / "two", range(2)), tmp_path / "index", recipe=recipe)
    for name in ("cat", "dog"):
        (tmp_path / "whole" / name).mkdir(parents=True)
        shutil.copyfile(six.root / "images" / "photo3.png", tmp_path / "whole" / name / f"{name}.png")
    with pytest.raises(ConfigError, match="needs masks"):
        add_data(tmp_path / "index", load_dataset(tmp_path / "whole"), new_ids=True)


def test_whole_images_are_added_with_their_classes(six: Dataset, tiny_recipe: Tiny, tmp_path: Path) -> None:
    for number in range(6):
        kind = ("cat", "dog", "cat", "dog", "emu", "cat")[number]
        name = tmp_path / ("first" if number < 4 else "second") / kind
        name.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(six.root / "images" / f"photo{number}.png", name / f"{number}.png")
    recipe = tiny_recipe("index.engine=exact", "features.level=image")
    build_index(load_dataset(tmp_path / "first"), tmp_path / "index", recipe=recipe)
    report = add_data(tmp_path / "index", load_dataset(tmp_path / "second"))
    assert (report.added, report.rows, report.classes) == (2, 2, ("emu",))
    with open_index(tmp_path / "index") as opened:
        assert opened.classes.names == ("cat", "dog", "emu")
        labels = np.concatenate([rows.labels for rows in opened.stream()])
        assert labels[-2:].tolist() == [
            [255, 0, 0],
            [0, 0, 255],
        ]


def test_an_index_that_is_changed_for_long_is_waited_for_once(
    six: Dataset, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_index(part_of(six, tmp_path / "two", range(2)), tmp_path / "index", recipe=recipe)
    asked = []

    def busy(path: Path, *_: object, **__: object) -> None:
        asked.append(path)
        raise IndexBusyError("another process began to change it")

    monkeypatch.setattr(add, "add_images", busy)
    with pytest.raises(IndexBusyError, match="another process began"):
        add_data(tmp_path / "index", six)
    assert len(asked) == 1


def test_an_index_for_one_process_is_asked_for_before_any_work(
    six: Dataset, tiny_recipe: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("qdrant_edge")
    recipe = tiny_recipe("index.engine=qdrant", "objective.kind=kl")
    build_index(part_of(six, tmp_path / "two", range(2)), tmp_path / "index", recipe=recipe)
    monkeypatch.setattr(add, "_describe", lambda *_, **__: pytest.fail("it is not open for changes"))
    with open_index(tmp_path / "index"):
        with pytest.raises(IndexFileError, match="wait for that one or stop it"):
            add_data(tmp_path / "index", six)
        assert add_data(tmp_path / "index", part_of(six, tmp_path / "same", range(2))).there == 2
