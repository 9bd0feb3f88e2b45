"""The picture of an answer shows memory images, or their thumbnails where the originals have moved."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from indexer import build_index, load_dataset, load_recipe
from retrieval import IndexFolder
from segmentation import Segmenter
from segmentation.drawing.votes import write_vote_picture
from segmentation.explain import Vote

SETTINGS = (
    "backbone.model=test_vit",
    "backbone.weights=random",
    "backbone.block=-1",
    "image.size=[64,64]",
    "features.kind=embeddings",
    "bank.max_patches=null",
    "bank.epochs=3",
    "index.engine=exact",
    "transfer.k=12",
    "runtime.device=cpu",
)
#: Larger than a thumbnail, and not square.
SIZE = (500, 800)


def smooth(seed: int) -> np.ndarray:
    """A photo (H, W, 3) uint8 that a thumbnail shows nearly as it is: soft blobs of colour."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 8, 3)).astype(np.uint8)
    return np.array(Image.fromarray(coarse).resize(SIZE[::-1], Image.Resampling.BICUBIC))


@pytest.fixture(scope="module")
def memory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a data set and an index of it, three epochs deep."""
    folder = tmp_path_factory.mktemp("votes")
    for part in ("images", "masks"):
        (folder / "data" / part).mkdir(parents=True)
    for number in range(2):
        mask = np.zeros(SIZE, np.uint8)
        mask[:, 400:] = 1
        Image.fromarray(smooth(number)).save(folder / "data" / "images" / f"photo{number}.png")
        Image.fromarray(mask).save(folder / "data" / "masks" / f"photo{number}.png")
    classes = [{"id": 0, "name": "left"}, {"id": 1, "name": "right"}]
    (folder / "data" / "classes.json").write_text(json.dumps({"classes": classes}))
    build_index(load_dataset(folder / "data"), folder / "my.index", recipe=load_recipe(None, SETTINGS))
    return folder


def votes_at(memory: Path, *, row: int, col: int) -> list[Vote]:
    with Segmenter.open(memory / "my.index") as segmenter:
        return segmenter.segment(memory / "query.png").explain(row, col)


def drawn(memory: Path, votes: list[Vote], name: str) -> np.ndarray:
    photo = np.array(Image.open(memory / "query.png"))
    path = write_vote_picture(memory / name, photo, (0, 0, 125, 200), votes, title="why")
    return np.array(Image.open(path).convert("RGB")).astype(int)


def test_a_moved_image_is_shown_by_its_thumbnail_with_the_patch_in_its_place(memory: Path) -> None:
    Image.fromarray(smooth(0)).save(memory / "query.png")
    votes = votes_at(memory, row=10, col=700)
    before = drawn(memory, votes, "before.png")
    moved = memory / "moved"
    (memory / "data" / "images").rename(moved)
    try:
        after = drawn(memory, votes, "after.png")
        nothing = drawn(memory, [replace(vote, thumbnail=None) for vote in votes], "nothing.png")
    finally:
        moved.rename(memory / "data" / "images")
    assert np.abs(before - nothing).mean() > 15, "the memory images are named only"
    assert np.abs(before - after).mean() < 2.5
    cyan = [(picture[:, :, 0] < 60) & (picture[:, :, 1:] > 200).all(axis=2) for picture in (before, after)]
    assert (cyan[0] != cyan[1]).mean() < 0.2 * cyan[0].mean(), "the boxes stand where they stood"


def test_later_epochs_have_the_thumbnail_of_their_image(memory: Path) -> None:
    thumbs = memory / "my.index" / "thumbs"
    assert len(list(thumbs.iterdir())) == 2
    with Segmenter.open(memory / "my.index", k=1000) as segmenter:
        records = IndexFolder.open(memory / "my.index").records
        assert [(record.id, record.epoch) for record in records] == [
            (f"photo{number}", epoch) for epoch in range(3) for number in range(2)
        ]
        votes = segmenter.segment(smooth(1)).explain(0, 0)
    assert len(votes) == sum(record.patches for record in records)
    named = {(vote.image_id, vote.thumbnail) for vote in votes}
    assert named == {(f"photo{number}", str(thumbs / f"{number:06d}.jpg")) for number in range(2)}
    assert {vote.image_size for vote in votes} == {SIZE}


def test_patches_of_an_augmented_first_epoch_lie_in_its_crop(memory: Path) -> None:
    recipe = load_recipe(None, [*SETTINGS, "bank.epochs=1", "bank.augmentation=hummingbird"])
    build_index(load_dataset(memory / "data"), memory / "theirs.index", recipe=recipe)
    records = {record.id: record for record in IndexFolder.open(memory / "theirs.index").records}
    with Segmenter.open(memory / "theirs.index", k=1000) as segmenter:
        votes = segmenter.segment(smooth(1)).explain(0, 0)
    assert len(votes) == sum(record.patches for record in records.values())
    for name, record in records.items():
        boxes = np.array([vote.box for vote in votes if vote.image_id == name])
        seen = (*boxes[:, :2].min(axis=0), *boxes[:, 2:].max(axis=0))
        assert seen == pytest.approx(record.box), "the patches tile the crop, in the image's own pixels"
    assert any(record.box != (0, 0, *SIZE) for record in records.values())
    assert all(vote.thumbnail is not None and vote.image_size == SIZE for vote in votes)
