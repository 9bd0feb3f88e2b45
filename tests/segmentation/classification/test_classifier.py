"""Classes of photos by the vote of whole images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from retrieval.errors import ConfigError, ImageError
from retrieval.folder import IndexFolder
from retrieval.neighbors import Filter
from segmentation.classification import Classifier
from segmentation.classification.matches import MatchBook

from .toy import CLASSES, PAINT, build_memory, photo, save, write_memory


@pytest.mark.parametrize("name", PAINT)
def test_a_photo_gets_the_class_of_its_neighbours(memory: Path, name: str) -> None:
    with Classifier.open(memory) as classifier:
        result = classifier.classify(photo(name, 99))
        assert result.best.name == name and result.best.share > 0.9
        assert result.shares.shape == (len(CLASSES),) and result.shares.dtype == np.float32
        assert abs(float(result.shares.sum()) - 1) < 1e-5
        assert abs(float(result.votes.sum()) - 1) < 1e-5
        matches = result.matches()
        assert len(matches) == 3 and all(match.classes == (name,) for match in matches)
        assert [m.similarity for m in matches] == sorted((m.similarity for m in matches), reverse=True)


def test_the_shares_are_those_of_the_formula(memory: Path) -> None:
    with Classifier.open(memory, k=12, temperature=0.1) as classifier:
        vector = classifier.describe(photo((200, 200, 40), 5))
        (result,) = classifier.label(vector[None])
        rows = next(iter(classifier.index.stream()))
        weights = np.exp(rows.vectors.astype(float) @ vector / 0.1)
        expected = (rows.labels > 0).T @ weights / weights.sum()
        np.testing.assert_allclose(result.shares, expected, rtol=1e-4)
        assert [item.name for item in result.top(2)] == ["rose", "leaf"] or len(result.top(2)) == 2


def test_many_are_as_one_whatever_the_batch(memory: Path) -> None:
    photos = [(n, photo(name, 50 + n)) for n, name in enumerate([*PAINT, *PAINT])]
    with Classifier.open(memory) as classifier:
        alone = [classifier.classify(picture).shares for _, picture in photos]
        for batch in (None, 1, 4):
            many = list(classifier.classify_many(photos, batch=batch))
            assert [key for key, _ in many] == list(range(6))
            for (_, result), shares in zip(many, alone, strict=True):
                np.testing.assert_allclose(result.shares, shares, atol=1e-6)
        with pytest.raises(ConfigError, match="at least 1 image"):
            classifier.classify_many(photos, batch=0)


def test_a_bad_photo_raises_or_is_told_of(memory: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no image")
    photos = [("bad", bad), ("good", photo("sea", 3))]
    with Classifier.open(memory) as classifier:
        with pytest.raises(ImageError, match=r"bad\.png"):
            list(classifier.classify_many(photos))
        told: list[str] = []
        found = list(classifier.classify_many(photos, on_error=lambda key, error: told.append(key)))
        assert [key for key, _ in found] == ["good"] and told == ["bad"]


def test_images_that_are_left_out_do_not_vote(memory: Path) -> None:
    with Classifier.open(memory) as classifier:
        result = classifier.classify(photo("rose", 9), filter=Filter(not_images=range(4)))
        assert result.best.name != "rose"
        nobody = classifier.classify(photo("rose", 9), filter=Filter(images=()))
        assert nobody.best.share == 0 and nobody.top(3) == [] and nobody.matches() == []


def test_similar_images_come_nearest_first(memory: Path, tmp_path: Path) -> None:
    own = tmp_path / "memory" / "leaf" / "leaf2.png"
    with Classifier.open(memory) as classifier:
        matches = classifier.similar(own, 5)
        assert (matches[0].image_id, matches[0].number) == ("leaf2", 6)
        assert matches[0].similarity > 0.9999 and matches[0].image_path == str(own)
        assert Path(matches[0].thumbnail or "").is_file()
        assert len(matches) == 5 and matches[4].classes != ("leaf",)
        assert classifier.similar(classifier.describe(own), 5) == matches
        assert len(classifier.similar(own, 100)) == 12
        with pytest.raises(ConfigError, match="at least 1, not 0"):
            classifier.similar(own, 0)


def test_epochs_of_one_image_are_one_match(memory: Path) -> None:
    folder = IndexFolder.open(memory)
    index = folder.index()
    first, second, *rest = folder.records
    again = replace(second, id=first.id, sha256=first.sha256, epoch=1)
    book = MatchBook(index, [first, again, *rest], thumbnail=lambda n: Path(f"{n}.jpg"))
    rows = next(iter(index.stream()))
    matches = book.matches(index.search(rows.vectors[1:2], 4))
    assert book.epochs == 2
    assert [match.number for match in matches].count(1) == 1 and len(matches) == 3
    assert matches[0].thumbnail == "0.jpg"
    index.close()


def test_several_classes_are_named(tmp_path: Path, toy: None) -> None:
    images = write_memory(tmp_path / "memory", 2)
    mixed = save(tmp_path / "mixed.png", photo((200, 200, 40), 1))
    index = build_memory(tmp_path / "i", [*images, (mixed, ("rose", "leaf"))], thumbnails=False)
    with Classifier.open(index, k=1) as classifier:
        (match,) = classifier.similar(mixed, 1)
        assert match.classes == ("rose", "leaf") and match.thumbnail is None
        np.testing.assert_allclose(classifier.classify(mixed).shares, [0.5, 0.5, 0], atol=1e-6)


def test_an_index_of_patches_is_refused(tmp_path: Path, toy: None) -> None:
    index = build_memory(tmp_path / "i", write_memory(tmp_path / "memory"), level="patch")
    with pytest.raises(ConfigError, match=r"index of patches.*mycelia segment.*features\.level=image"):
        Classifier.open(index)


def test_impossible_settings_and_a_closed_classifier(memory: Path) -> None:
    with pytest.raises(ConfigError, match="k = 0"):
        Classifier.open(memory, k=0)
    with pytest.raises(ConfigError, match="temperature = 0"):
        Classifier.open(memory, temperature=0)
    classifier = Classifier.open(memory, k=7)
    assert classifier.recipe.transfer.k == 7
    classifier.close()
    with pytest.raises(ConfigError, match="closed"):
        classifier.classify(photo("sea", 1))
