"""Patches unlike anything in the memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from indexer.datasets import Dataset
from indexer.images.windows import ArrayReader
from retrieval.classes import ClassInfo, ClassMap
from retrieval.errors import ConfigError, MaskError
from retrieval.neighbors import Neighbors
from segmentation import unknown
from segmentation.drawing.overlays import with_legend
from segmentation.pixels import mask_of_columns
from segmentation.scoring.evaluator import evaluate
from segmentation.segmenter import Segmenter
from segmentation.unknown import least_similarity, nearness_of, own_similarities

Make = Callable[..., Segmenter]


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("MYCELIA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def foreign_half(scene: Any) -> np.ndarray:
    """A scene whose right half has a colour that no class has."""
    photo = scene(1, (64, 96))[0]
    photo[:, 48:] = (120, 20, 130)
    return photo


def test_own_similarities_leave_the_image_out(world: Make) -> None:
    segmenter = world()
    own = own_similarities(segmenter.index, segmenter.images)
    rows = list(segmenter.index.stream())
    vectors = np.concatenate([part.vectors for part in rows])
    numbers = np.concatenate([part.patches[:, 0] for part in rows])
    similar = vectors @ vectors.T
    similar[numbers[:, None] == numbers] = -np.inf
    best = similar.max(axis=1)
    assert len(own) == unknown.ROWS * len(segmenter.images) and (np.diff(own) >= 0).all()
    gaps = np.abs(own[:, None] - best).min(axis=1)
    assert gaps.max() < 1e-5 and best.max() < 1.0 + 1e-5


def test_the_threshold_is_kept_and_made_anew_for_another_memory(
    world: Make, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    segmenter = world()
    least = least_similarity(segmenter.index, segmenter.images, 0.05)
    own = own_similarities(segmenter.index, segmenter.images)
    assert least == pytest.approx(float(np.quantile(own, 0.05)))
    kept = list((cache / "nearest").iterdir())
    assert len(kept) == 1
    with monkeypatch.context() as patched:
        patched.setattr(unknown, "own_similarities", lambda *_: pytest.fail("it is kept"))
        assert least_similarity(segmenter.index, segmenter.images, 0.05) == least
    kept[0].write_bytes(b"no array")
    assert least_similarity(segmenter.index, segmenter.images, 0.05) == least
    segmenter.index.remove(0)
    segmenter.index.flush()
    least_similarity(segmenter.index, segmenter.images[1:], 0.05)
    assert len(list((cache / "nearest").iterdir())) == 2


@pytest.mark.parametrize("image", [{}, {"shifts": 2}, {"flip": True}, {"scale": 1.0}])
def test_what_is_foreign_is_left_blank_and_nothing_else(
    world: Make, scene: Any, image: dict[str, Any]
) -> None:
    plain, blanking = world(image=image), world(image=image, transfer={"unknown": 0.01})
    photo = foreign_half(scene)
    whole, result = plain.segment(photo), blanking.segment(photo)
    blank = result.columns < 0
    assert blank[:, 60:].all() and blank[:, :36].mean() < 0.3
    np.testing.assert_array_equal(result.winners, whole.columns)
    np.testing.assert_array_equal(result.confidence, whole.confidence)
    np.testing.assert_array_equal(result.mask == 255, blank)
    np.testing.assert_array_equal(result.columns[~blank], whole.columns[~blank])
    strips = list(blanking.segment_strips(ArrayReader(photo)))
    np.testing.assert_array_equal(np.concatenate([strip.columns for strip in strips]), result.columns)


def test_more_is_blank_with_a_larger_share(world: Make, scene: Any) -> None:
    photo = scene(1, (64, 96))[0]
    blanks = [(world(transfer={"unknown": share}).segment(photo).columns < 0) for share in (0.01, 0.2, 0.9)]
    assert blanks[0].sum() <= blanks[1].sum() < blanks[2].sum()
    assert (blanks[2] | ~blanks[1]).all()


def test_evaluate_counts_what_is_right_and_what_is_wrong(
    world: Make, scene: Any, dataset: Callable[..., Dataset]
) -> None:
    photo, columns = foreign_half(scene), scene(1, (64, 96))[1]
    data = dataset([(photo, columns), scene(2, (64, 96))])
    segmenter = world(transfer={"unknown": 0.05})
    report = evaluate(segmenter, data)
    assert report.blanks is not None
    results = [segmenter.segment(photo), segmenter.segment(scene(2, (64, 96))[0])]
    truth = np.concatenate([columns.ravel(), scene(2, (64, 96))[1].ravel()])
    winners = np.concatenate([result.winners.ravel() for result in results])
    blank = np.concatenate([(result.columns < 0).ravel() for result in results])
    right = truth == winners
    assert report.blanks.right == pytest.approx(blank[right].mean())
    assert report.blanks.wrong == pytest.approx(blank[~right].mean())
    assert report.blanks.blank == pytest.approx(blank.mean())
    assert report.to_json()["unknown"]["blank_of_wrong"] == pytest.approx(blank[~right].mean())
    plain = evaluate(world(), data)
    assert plain.blanks is None and plain.miou == report.miou and plain.to_json()["unknown"] is None


def test_an_index_that_cannot_leave_one_image_out_is_refused(world: Make) -> None:
    segmenter = world()
    with pytest.raises(ConfigError, match="fewer than two"):
        own_similarities(segmenter.index, segmenter.images[:1])


def test_no_neighbour_is_the_farthest() -> None:
    none = Neighbors(np.full((2, 1), -1), np.full((2, 1), -np.inf, np.float32), np.zeros((2, 1, 1), np.uint8))
    some = Neighbors(np.zeros((2, 1), int), np.float32([[0.5], [-2]]), np.zeros((2, 1, 1), np.uint8))
    np.testing.assert_array_equal(nearness_of([none], (1, 2)), [[-1, -1]])
    np.testing.assert_array_equal(nearness_of([none, some], (2, 1)), [[0.5], [-1]])


def test_blank_pixels_have_an_id_of_no_class() -> None:
    def classes(ids: range, ignore: tuple[int, ...] = ()) -> ClassMap:
        return ClassMap(tuple(ClassInfo(id, str(id), (id % 256, 0, 0)) for id in ids), ignore)

    columns = np.array([[0, -1], [1, -1]], dtype=np.int32)
    assert mask_of_columns(columns, classes(range(2), (7, 9))).tolist() == [[0, 7], [1, 7]]
    assert mask_of_columns(columns, classes(range(2))).tolist() == [[0, 255], [1, 255]]
    assert mask_of_columns(columns, classes(range(2), (300, 11))).tolist() == [[0, 11], [1, 11]]
    assert mask_of_columns(columns, classes(range(254, 256))).tolist() == [[254, 253], [255, 253]]
    assert mask_of_columns(columns, classes(range(500, 502))).tolist() == [[500, 65535], [501, 65535]]
    with pytest.raises(MaskError, match="none is left for blank"):
        mask_of_columns(columns, classes(range(256)))


def test_a_legend_names_what_is_blank(classes: ClassMap) -> None:
    mask = np.full((40, 300), classes.ids[0], dtype=np.uint8)
    picture = np.zeros((40, 300, 3), dtype=np.uint8)
    plain = with_legend(picture, mask, classes)
    mask[:, :150] = 255
    assert with_legend(picture, mask, classes).shape[1] == plain.shape[1]
    assert (with_legend(picture, mask, classes)[40:] == (224, 224, 192)).all(axis=-1).sum() > 50
    assert not (plain[40:] == (224, 224, 192)).all(axis=-1).any()
