"""A survey says what is there, and what a build would say of what is wrong, without stopping at it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from indexer.datasets import load_dataset
from indexer.datasets.survey import Survey, choose_evenly, survey, survey_folder
from retrieval.errors import ConfigError, DataError, DatasetError

SIZE = (20, 30)


def photo(seed: int, size: tuple[int, int] = SIZE) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (*size, 3), dtype=np.uint8))


def halves(left: int, right: int, size: tuple[int, int] = SIZE) -> Image.Image:
    """A mask: a third of its columns one id, the others another."""
    mask = np.full(size, right, dtype=np.uint8)
    mask[:, : size[1] // 3] = left
    return Image.fromarray(mask)


def palette_mask(colors: list[tuple[int, int, int]]) -> Image.Image:
    image = halves(0, 1)
    image.putpalette([channel for color in colors for channel in color])
    return image


def put(image: Image.Image, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three images of a train split and two of val, 0 and 1 in their masks, classes named."""
    root = tmp_path / "data"
    for number, id in enumerate(("train/a", "train/b", "train/c", "val/d", "val/e")):
        put(photo(number), root / "images" / f"{id}.jpg")
        put(halves(0, 1), root / "masks" / f"{id}.png")
    (root / "classes.json").write_text(json.dumps({"names": ["left", "right"]}))
    return root


def kinds(found: Survey) -> list[str]:
    return [oddity.kind for oddity in found.oddities]


def message(found: Survey, kind: str) -> str:
    (odd,) = [oddity for oddity in found.oddities if oddity.kind == kind]
    return odd.message


def test_a_sound_folder(data: Path) -> None:
    found, dataset = survey_folder(data)
    assert (found.name, found.format, found.split) == ("data", "folder", None)
    assert found.splits == (("train", 3), ("val", 2))
    assert (found.images, found.masked, found.masks_read) == (5, 5, 5)
    assert found.shapes.common == ((SIZE, 5),)
    assert found.shapes.aspects == (1.5, 1.5, 1.5) and found.shapes.median == SIZE
    assert [(item.name, item.id, item.images) for item in found.classes] == [("left", 0, 5), ("right", 1, 5)]
    assert [item.share for item in found.classes] == pytest.approx([1 / 3, 2 / 3])
    assert (found.unlabelled, found.named, found.oddities, found.left_out) == (0, True, (), ())
    assert len(dataset) == 5
    assert json.loads(json.dumps(found.to_json()))["splits"] == {"train": 3, "val": 2}


def test_shares_are_those_of_a_count_by_hand(data: Path) -> None:
    put(halves(255, 1), data / "masks" / "train" / "a.png")
    found, _ = survey_folder(data, split="train")
    pixels = [np.array(Image.open(path)) for path in sorted((data / "masks" / "train").iterdir())]
    stacked = np.concatenate([mask.ravel() for mask in pixels])
    assert [item.share for item in found.classes] == pytest.approx([(stacked == id).mean() for id in (0, 1)])
    assert found.unlabelled == pytest.approx((stacked == 255).mean())
    assert [item.images for item in found.classes] == [2, 3]


def test_a_loaded_data_set_is_surveyed_without_its_folder(data: Path) -> None:
    found = survey(load_dataset(data, split="train"), sample=2)
    assert (found.images, found.masks_read, found.split) == (3, 2, "train")
    assert found.palettes is None


def test_a_sample_is_evenly_spaced() -> None:
    assert choose_evenly(range(10), 20) == list(range(10))
    assert choose_evenly(range(10), 2) == [2, 7]
    assert choose_evenly(range(10_000), 4) == [1250, 3750, 6250, 8750]
    assert choose_evenly([], 3) == choose_evenly([1, 2], 0) == []


def test_large_masks_take_a_smaller_sample(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("indexer.datasets.survey.PIXELS", 2 * SIZE[0] * SIZE[1])
    found, _ = survey_folder(data)
    assert (found.masks_read, found.masked) == (2, 5)


def spoil_broken(data: Path) -> Path:
    path = data / "masks" / "train" / "b.png"
    path.write_bytes(path.read_bytes()[:60])
    return path


def spoil_unknown_id(data: Path) -> Path:
    return put(halves(0, 7), data / "masks" / "train" / "b.png")


def spoil_rgb(data: Path) -> Path:
    return put(photo(9), data / "masks" / "train" / "b.png")


def spoil_alpha(data: Path) -> Path:
    image = halves(0, 1).convert("RGBA")
    image.putalpha(90)
    return put(image, data / "masks" / "train" / "b.png")


def spoil_size(data: Path) -> Path:
    return put(halves(0, 1, (10, 15)), data / "masks" / "train" / "b.png")


def spoil_photo(data: Path) -> Path:
    path = data / "images" / "train" / "b.jpg"
    path.write_bytes(path.read_bytes()[:300])
    return path


def spoil_missing(data: Path) -> Path:
    path = data / "masks" / "train" / "b.png"
    path.unlink()
    return path


def leave_one_stray_mask(data: Path) -> None:
    for path in (data / "masks").rglob("*.png"):
        path.unlink()
    put(halves(0, 1), data / "masks" / "train" / "unrelated.png")


@pytest.mark.parametrize(
    ("spoil", "kind"),
    [
        (spoil_broken, "mask"),
        (spoil_unknown_id, "mask"),
        (spoil_rgb, "mask"),
        (spoil_alpha, "mask"),
        (spoil_size, "size"),
        (spoil_photo, "image"),
        (spoil_missing, "no mask"),
    ],
)
def test_what_stops_a_build_is_said_in_its_words(
    data: Path, spoil: Callable[[Path], Path], kind: str
) -> None:
    spoil(data)
    found, _ = survey_folder(data)
    dataset = load_dataset(data, split="train")
    with pytest.raises(DataError) as raised:
        dataset.read(dataset.samples[1])
    assert message(found, kind) == str(raised.value)
    assert found.classes[0].images >= 4  # the look went on


def test_equal_faults_are_one_oddity(data: Path) -> None:
    for id in ("a", "b", "c"):
        put(halves(0, 7), data / "masks" / "train" / f"{id}.png")
    (odd,) = survey_folder(data)[0].oddities
    assert (odd.kind, odd.count, len(odd.names)) == ("mask", 3, 3)


def test_colours_without_a_list_are_counted(data: Path) -> None:
    (data / "classes.json").unlink()
    for path in (data / "masks").rglob("*.png"):
        put(palette_mask([(0, 0, 0), (250, 50, 83)]).convert("RGB"), path)
    put(halves(0, 1, (10, 15)).convert("RGB"), data / "masks" / "val" / "e.png")
    found, _ = survey_folder(data)
    with pytest.raises(DatasetError) as raised:
        load_dataset(data, split="train")
    assert message(found, "classes").split("; ")[-1] == str(raised.value).split("; ")[-1]
    assert not found.named
    assert [item.color for item in found.classes[:2]] == [(250, 50, 83), (0, 0, 0)]
    assert "size" in kinds(found)


def test_a_faulty_class_file_does_not_stop_the_look(data: Path) -> None:
    (data / "classes.json").write_text('{"names": []}')
    found, _ = survey_folder(data)
    with pytest.raises(DatasetError) as raised:
        load_dataset(data, split="train")
    assert message(found, "classes") == str(raised.value)
    assert [item.id for item in found.classes] == [1, 0]


def test_a_bad_list_leaves_the_other_splits(data: Path) -> None:
    (data / "few.txt").write_text("train/a\ntrain/zzz\n")
    found, _ = survey_folder(data)
    assert "zzz" in message(found, "split")
    assert dict(found.splits) == {"few": 0, "train": 3, "val": 2}


def test_no_mask_at_all(data: Path) -> None:
    leave_one_stray_mask(data)
    found, _ = survey_folder(data)
    assert (found.images, found.masked) == (5, 0)
    assert "no mask" in kinds(found) and "classes" in kinds(found)


def test_palettes_that_differ_are_told(data: Path) -> None:
    red, blue = (255, 0, 0), (0, 0, 255)
    for id, colors in {"a": [red, blue], "b": [red, blue], "c": [blue, red]}.items():
        put(palette_mask(colors), data / "masks" / "train" / f"{id}.png")
    found, _ = survey_folder(data, split="train")
    assert found.palettes == 2
    assert "a.png" in message(found, "palettes") and "c.png" in message(found, "palettes")


def test_palettes_are_compared_where_they_are_used(data: Path) -> None:
    for id, last in {"a": (1, 1, 1), "b": (2, 2, 2)}.items():
        put(palette_mask([(0, 0, 0), (9, 9, 9), last]), data / "masks" / "train" / f"{id}.png")
    found, _ = survey_folder(data)
    assert found.palettes == 1 and "palettes" not in kinds(found)


def test_strays_twins_and_files_left_out(data: Path) -> None:
    put(photo(0), data / "images" / "val" / "copy.jpg")  # as train/a
    put(halves(0, 1), data / "masks" / "val" / "copy.png")
    put(halves(0, 1), data / "masks" / "val" / "lost.png")
    for name in ("x.mov", "y.MOV", "notes.txt", ".hidden", "Thumbs.db"):
        (data / "images" / "val" / name).write_text("?")
    found, _ = survey_folder(data)
    assert dict(found.left_out) == {".mov": 2, ".txt": 1}
    assert "lost.png" in message(found, "mask without image")
    twins = message(found, "twins train val")
    assert "copy.jpg" in twins and "a.jpg" in twins


def test_odd_photos(data: Path) -> None:
    deep = np.random.default_rng(0).integers(0, 4096, SIZE).astype(np.uint16)
    (data / "images" / "train" / "a.jpg").unlink()
    put(Image.fromarray(deep), data / "images" / "train" / "a.png")
    clear = photo(3)
    clear.putalpha(0)
    (data / "images" / "train" / "b.jpg").unlink()
    put(clear, data / "images" / "train" / "b.png")
    found, _ = survey_folder(data)
    texts = [odd.message for odd in found.oddities if odd.kind == "photo"]
    assert any("12 are in use" in text for text in texts)
    assert any("transparent everywhere" in text for text in texts)


def test_an_opaque_alpha_is_told(data: Path) -> None:
    path = data / "masks" / "train" / "a.png"
    put(Image.open(path).convert("LA"), path)
    found, _ = survey_folder(data)
    assert kinds(found) == ["mask alpha"] and found.masks_read == 5


def test_photos_are_looked_at_without_masks(data: Path) -> None:
    spoil_photo(data)
    leave_one_stray_mask(data)
    assert "b.jpg" in message(survey_folder(data)[0], "image")


def test_sizes_are_those_of_upright_images(data: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    photo(1, (SIZE[1], SIZE[0])).save(data / "images" / "train" / "a.jpg", exif=exif)
    found, _ = survey_folder(data)
    assert found.shapes.different == 1 and "size" not in kinds(found)


def test_what_was_asked_must_be_there(data: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DatasetError, match="no split 'test'; its splits: train, val"):
        survey_folder(data, split="test")
    with pytest.raises(DatasetError, match="has no layout"):
        survey_folder(empty)
    with pytest.raises(ConfigError, match="unknown data set format"):
        survey_folder(data, format="dicom")


def test_a_subset(data: Path, tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_text("a\nc\n")
    found, _ = survey_folder(data, split="train", subset=tmp_path / "ids.txt")
    assert found.images == found.masks_read == 2


def test_an_empty_folder_of_images(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    found, _ = survey_folder(tmp_path)
    assert found.images == 0 and "holds no images" in message(found, "data set")
