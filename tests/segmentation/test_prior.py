from __future__ import annotations

import numpy as np
import pytest

from retrieval.classes import ClassInfo, ClassMap
from retrieval.errors import ConfigError
from segmentation.prior import memory_prior, prior_ratio, reweighted, target_prior

FOUR = ClassMap(tuple(ClassInfo(n, name, (0, 0, n)) for n, name in enumerate(["sky", "road", "car", "tree"])))
MEMORY = np.array([0.4, 0.3, 0.2, 0.1])


def test_the_memorys_prior_is_its_labels_mass(world) -> None:
    index = world().index
    labels = np.concatenate([rows.labels for rows in index.stream()]).astype(float)
    expected = (labels / labels.sum(axis=1, keepdims=True)).mean(axis=0)
    np.testing.assert_allclose(memory_prior(index), expected)


def test_rows_that_stand_for_several_count_as_often() -> None:
    class Two:
        classes = ClassMap(FOUR.classes[:2])

        def stream(self):
            from retrieval.neighbors import Rows

            labels = np.array([[255, 0], [100, 100]], np.uint8)
            weights = np.array([1, 3], np.float32)
            yield Rows(
                np.arange(2), np.zeros((2, 4), np.float32), labels, np.zeros((2, 3), np.int32), weights
            )

    np.testing.assert_allclose(memory_prior(Two()), [2.5 / 4, 1.5 / 4])


def test_classes_left_out_share_the_rest_as_in_the_memory() -> None:
    np.testing.assert_allclose(target_prior({"car": 0.5}, MEMORY, FOUR), [0.25, 0.1875, 0.5, 0.0625])
    whole = {"sky": 0.1, "road": 0.2, "car": 0.3, "tree": 0.4}
    np.testing.assert_allclose(target_prior(whole, MEMORY, FOUR), [0.1, 0.2, 0.3, 0.4])


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ({"bus": 0.1}, "names the class 'bus', but the index has sky, road, car, tree"),
        ({"car": 1.5}, "gives car the share 1.5"),
        ({"car": -0.1}, "gives car the share -0.1"),
        ({"car": 0.8, "sky": 0.4}, "sum to 1.200"),
        ({"sky": 0.1, "road": 0.2, "car": 0.3, "tree": 0.1}, "sum to 0.700"),
    ],
)
def test_shares_that_do_not_fit_are_refused(stated, message) -> None:
    with pytest.raises(ConfigError, match=message):
        target_prior(stated, MEMORY, FOUR)


def test_a_class_that_the_memory_lacks_is_refused() -> None:
    with pytest.raises(ConfigError, match="expects car, but the memory has no label of it"):
        target_prior({"car": 0.2}, np.array([0.5, 0.5, 0, 0]), FOUR)


def test_shares_are_bayes_rule_with_other_priors() -> None:
    generator = np.random.default_rng(0)
    likelihood = generator.random((5, 6, 4))  # p(x | c)
    target = np.array([0.1, 0.2, 0.3, 0.4])
    before = likelihood * MEMORY
    before /= before.sum(axis=-1, keepdims=True)
    after = likelihood * target
    after /= after.sum(axis=-1, keepdims=True)
    found = reweighted(before.astype(np.float32), (target / MEMORY).astype(np.float32))
    np.testing.assert_allclose(found, after, rtol=1e-5)
    assert (reweighted(np.zeros((2, 4), np.float32), np.ones(4, np.float32)) == 0).all()


def test_a_segmenter_expects_what_is_stated(world, scene, tmp_path) -> None:
    photo, _ = scene(1, (64, 96))
    weak = {"temperature": 1.0, "k": 80}
    plain = world(transfer=weak)
    result = plain.segment(photo)
    file = tmp_path / "prior.yaml"
    file.write_text("tree: 0.97\n")
    for prior in ({"tree": 0.97}, str(file)):
        subject = world(transfer={**weak, "prior": prior})
        moved = subject.segment(photo)
        ratio = prior_ratio(plain.index, {"tree": 0.97})
        np.testing.assert_allclose(moved.shares, reweighted(result.shares, ratio), atol=1e-6)
        assert (moved.columns == 2).sum() > (result.columns == 2).sum()
    same = world(transfer={**weak, "prior": {}}).segment(photo)
    np.testing.assert_allclose(same.shares, result.shares, atol=1e-6)


@pytest.mark.parametrize(
    ("text", "message"), [(None, "cannot be read"), ("- 1", "expected a mapping"), ("a: b", "expected a map")]
)
def test_a_file_that_is_no_prior_is_refused(world, tmp_path, text, message) -> None:
    file = tmp_path / "p.yaml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ConfigError, match=message):
        world(transfer={"prior": str(file)})
