from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from retrieval.errors import ConfigError
from retrieval.neighbors import Neighbors
from segmentation import transfer
from segmentation.transfer import blend_labels, vote_shares


def transfer_labels(found: Neighbors, *, temperature: float) -> np.ndarray:
    return blend_labels(found.labels, vote_shares(found, temperature=temperature))


def random_neighbors(q: int = 40, k: int = 7, c: int = 5, seed: int = 0) -> Neighbors:
    generator = np.random.default_rng(seed)
    similarities = -np.sort(-generator.uniform(-1, 1, (q, k)), axis=1).astype(np.float32)
    soft = generator.dirichlet(np.full(c, 0.3), (q, k))
    return Neighbors(generator.integers(0, 999, (q, k)), similarities, np.rint(soft * 255).astype(np.uint8))


def missing_from(found: Neighbors, keep: int) -> Neighbors:
    """The same search on a bank of only ``keep`` rows."""
    ids, similarities, labels = found.ids.copy(), found.similarities.copy(), found.labels.copy()
    ids[:, keep:], similarities[:, keep:], labels[:, keep:] = -1, -np.inf, 0
    return Neighbors(ids, similarities, labels)


def test_weights_are_the_softmax_in_double_precision() -> None:
    found = random_neighbors()
    scaled = found.similarities.astype(np.float64) / 0.02
    expected = np.exp(scaled - scaled.max(1, keepdims=True))
    expected /= expected.sum(1, keepdims=True)
    np.testing.assert_allclose(vote_shares(found, temperature=0.02), expected, atol=1e-6)


def test_labels_are_the_weighted_mean_of_normalised_labels() -> None:
    found = random_neighbors()
    weights = vote_shares(found, temperature=0.1).astype(np.float64)
    labels = found.labels / found.labels.sum(axis=2, keepdims=True)
    expected = (weights[:, :, None] * labels).sum(axis=1)
    result = transfer_labels(found, temperature=0.1)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected, atol=1e-6)
    np.testing.assert_allclose(result.sum(axis=1), 1, atol=1e-6)


def test_missing_neighbours_do_not_vote() -> None:
    found = random_neighbors()
    few = found.first(3)
    padded = missing_from(found, 3)
    np.testing.assert_array_equal(vote_shares(padded, temperature=0.1)[:, 3:], 0)
    np.testing.assert_allclose(
        transfer_labels(padded, temperature=0.1), transfer_labels(few, temperature=0.1), atol=1e-7
    )


def test_a_query_without_neighbours_has_no_label() -> None:
    empty = missing_from(random_neighbors(), 0)
    assert not transfer_labels(empty, temperature=0.1).any()
    assert not vote_shares(empty, temperature=0.1).any()


def test_a_label_counts_by_its_weight_and_not_by_its_rounding() -> None:
    labels = np.array([[[85, 85, 84], [255, 0, 0]]], dtype=np.uint8)  # the first was rounded down
    found = Neighbors(np.array([[0, 1]]), np.array([[0.5, 0.5]], dtype=np.float32), labels)
    expected = [(85 / 254 + 1) / 2, 85 / 508, 84 / 508]
    np.testing.assert_allclose(transfer_labels(found, temperature=0.02)[0], expected, atol=1e-7)


def test_classes_permute_with_their_columns() -> None:
    found, order = random_neighbors(), np.array([3, 1, 4, 0, 2])
    permuted = Neighbors(found.ids, found.similarities, found.labels[:, :, order])
    before, after = (transfer_labels(each, temperature=0.05) for each in (found, permuted))
    np.testing.assert_allclose(after, before[:, order], atol=1e-7)


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    found = random_neighbors()
    whole = transfer_labels(found, temperature=0.05)
    monkeypatch.setattr(transfer, "CHUNK", 3 * 7 * 5)
    np.testing.assert_allclose(transfer_labels(found, temperature=0.05), whole, atol=1e-7)


def test_a_temperature_must_be_positive() -> None:
    with pytest.raises(ConfigError, match="temperature is 0"):
        vote_shares(random_neighbors(), temperature=0)


def test_a_row_that_stands_for_several_patches_counts_as_if_it_were_there_so_often() -> None:
    found = random_neighbors(3, 4, 5)
    counts = np.array([[1, 3, 2, 1], [4, 1, 1, 1], [1, 1, 1, 2]])
    weighted = replace(found, multiplicity=counts.astype(np.float32))
    got = transfer_labels(weighted, temperature=0.1)
    for query in range(3):
        often = np.repeat(np.arange(4), counts[query])
        spread = Neighbors(
            *(part[query : query + 1, often] for part in (found.ids, found.similarities, found.labels))
        )
        np.testing.assert_allclose(got[query], transfer_labels(spread, temperature=0.1)[0], atol=1e-6)


def test_weights_of_one_change_nothing_and_missing_neighbours_still_weigh_nothing() -> None:
    found = random_neighbors(2, 3, 4)
    ones = replace(found, multiplicity=np.ones((2, 3), np.float32))
    np.testing.assert_array_equal(vote_shares(ones, temperature=0.05), vote_shares(found, temperature=0.05))
    missing = Neighbors(
        np.array([[7, -1], [-1, -1]]),
        np.array([[0.5, -np.inf], [-np.inf, -np.inf]], dtype=np.float32),
        np.zeros((2, 2, 3), np.uint8),
        np.array([[9, 0], [0, 0]], dtype=np.float32),
    )
    np.testing.assert_array_equal(vote_shares(missing, temperature=0.05), [[1, 0], [0, 0]])
