"""What to label next: the order, and its reasons."""

from __future__ import annotations

import json

import numpy as np
import pytest

from segmentation.assist import ranking
from segmentation.assist.ranking import Measures, rank


def measures(*descriptor: float, confidence: float = 0.5, unknown: float | None = 0.0) -> Measures:
    vector = np.array(descriptor, dtype=np.float32)
    return Measures(confidence, 0.31, unknown, vector / np.linalg.norm(vector))


def test_the_least_sure_comes_first_and_its_twin_last() -> None:
    photos = [
        ("twin", measures(1, 0, 0, confidence=0.2)),
        ("worst", measures(1, 0.01, 0, confidence=0.1)),
        ("other", measures(0, 1, 0, confidence=0.8)),
        ("third", measures(0, 0, 1, confidence=0.7)),
    ]
    ranked = rank(photos)
    assert [photo.name for photo in ranked] == ["worst", "third", "other", "twin"]
    assert "looks like worst, which is above" in ranked[3].reasons
    assert "looks like none of those above" in ranked[1].reasons
    assert all("looks like" not in reason for reason in ranked[0].reasons)
    assert [photo.score for photo in ranked] == sorted((photo.score for photo in ranked), reverse=True)


def test_what_is_unknown_counts_and_is_said() -> None:
    ranked = rank([("a", measures(1, 0)), ("b", measures(0, 1, unknown=0.12))])
    assert [photo.name for photo in ranked] == ["b", "a"]
    assert ranked[0].reasons == ("31 % of pixels below 0.5 confidence", "12 % unlike anything in the memory")
    assert rank([("a", measures(1, 0, unknown=None))])[0].reasons == ("31 % of pixels below 0.5 confidence",)


def test_the_order_is_that_of_a_direct_computation() -> None:
    generator = np.random.default_rng(3)
    photos = [
        (f"{number:02d}", measures(*generator.random(5), confidence=float(generator.random())))
        for number in range(12)
    ]
    expected: list[str] = []
    while len(expected) < len(photos):
        above = [known for name, known in photos if name in expected]
        scores = {
            name: one.need * min((1 - float(one.descriptor @ each.descriptor) for each in above), default=1)
            for name, one in photos
            if name not in expected
        }
        expected.append(max(scores, key=lambda name: scores[name]))
    assert [photo.name for photo in rank(photos[::-1])] == expected
    assert rank([]) == []


def test_measures_come_back_from_json() -> None:
    known = measures(3, 4, 1, unknown=None)
    again = Measures.from_json(json.loads(json.dumps(known.to_json())))
    assert (again.confidence, again.unsure, again.unknown) == (known.confidence, known.unsure, None)
    np.testing.assert_allclose(again.descriptor, known.descriptor, atol=1e-3)
    assert float(np.linalg.norm(again.descriptor)) == pytest.approx(1, abs=1e-5)


def test_many_photos_need_no_memory_of_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    import tracemalloc

    monkeypatch.setattr(ranking, "COMPARED", 100)
    generator = np.random.default_rng(0)
    photos = [(f"{n:04}", measures(*generator.normal(size=4))) for n in range(2000)]
    tracemalloc.start()
    try:
        ranked = rank(photos)
        assert tracemalloc.get_traced_memory()[1] < 8e6  # 2000 x 2000 float32 are 16 MB
    finally:
        tracemalloc.stop()
    assert len({photo.name for photo in ranked}) == 2000
