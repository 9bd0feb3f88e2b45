"""A look at images that have classes as a whole."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from indexer.datasets.survey import survey_folder


def test_classes_and_images_of_each(tmp_path: Path) -> None:
    for number, name in enumerate(("train/a/1.png", "train/a/2.png", "train/b/1.png", "val/b/1.png")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.linear_gradient("L").resize((8 + number, 9)).save(tmp_path / name)
    found, dataset = survey_folder(tmp_path)
    assert found.whole and dataset.whole
    assert (found.images, found.splits) == (4, (("train", 3), ("val", 1)))
    assert [(item.name, item.id, item.images, item.share) for item in found.classes] == [
        ("a", 0, 2, 0.5),
        ("b", 1, 2, 0.5),
    ]
    assert found.notes == ("split val has no folder of the class a",)
    assert found.oddities == ()
    assert [item.images for item in survey_folder(tmp_path, split="val")[0].classes] == [0, 1]


def test_a_missing_image_is_odd(tmp_path: Path) -> None:
    Image.linear_gradient("L").save(tmp_path / "a.png")
    (tmp_path / "all.csv").write_text("a.png,x;y\ngone.png,x\n")
    found, _ = survey_folder(tmp_path)
    assert [(item.name, item.images) for item in found.classes] == [("x", 2), ("y", 1)]
    (odd,) = found.oddities
    assert odd.kind == "image" and "gone.png does not exist" in odd.message
