"""Parts of a data set: shares and numbers drawn by a seed, nested, and files of ids."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from indexer.bank.sampling import choose_images
from indexer.datasets import Dataset, Sample
from indexer.datasets.labels import NoLabels
from indexer.datasets.subset import Draw, parse_draw, take_subset
from indexer.recipe import BankSettings
from retrieval.classes import ClassInfo, ClassMap
from retrieval.errors import ConfigError, DatasetError


def make(count: int, *, first: int = 0) -> Dataset:
    samples = tuple(
        Sample(f"image{n}", Path(f"{n}.png"), NoLabels(Path(f"{n}.png"))) for n in range(first, count)
    )
    return Dataset("made", "folder", Path(), None, samples, ClassMap((ClassInfo(0, "a", (0, 0, 0)),)))


def ids(dataset: Dataset) -> list[str]:
    return [sample.id for sample in dataset.samples]


def test_smaller_subsets_are_part_of_larger_ones() -> None:
    data = make(50)
    parts = [ids(take_subset(data, text)) for text in ("1", "0.1", "0.2", "25", "0.8", "1.0")]
    assert [len(part) for part in parts] == [1, 5, 10, 25, 40, 50]
    for small, large in pairwise(parts):
        assert set(small) < set(large)
    assert all(part == [id for id in ids(data) if id in part] for part in parts)


def test_the_seed_alone_decides() -> None:
    data = make(50)
    assert ids(take_subset(data, "0.2")) == ids(take_subset(data, "10")) == ids(take_subset(data, "0.2@0"))
    assert ids(take_subset(data, "0.2@7")) == ids(take_subset(data, "10@7")) != ids(take_subset(data, "10"))
    backwards = Dataset("made", "folder", Path(), None, data.samples[::-1], data.classes)
    assert set(ids(take_subset(backwards, "0.2"))) == set(ids(take_subset(data, "0.2")))
    more = set(ids(take_subset(make(60), "10"))) & {f"image{n}" for n in range(50)}
    assert more <= set(ids(take_subset(data, "10")))


def test_the_draw_is_that_of_the_low_data_protocol() -> None:
    data = make(30)
    bank = choose_images(data, BankSettings(max_images=6), seed=3)
    assert [sample.id for sample in bank] == ids(take_subset(data, "0.2@3"))


def test_what_a_text_means() -> None:
    assert parse_draw("0.25") == Draw(share=0.25)
    assert parse_draw("1") == Draw(count=1) and parse_draw("1.0") == Draw(share=1.0)
    assert parse_draw("1e-2@5") == Draw(share=0.01, seed=5)
    assert parse_draw("ids.txt") is None and parse_draw("./10") is None and parse_draw("1.2.3") is None
    assert [Draw(share=0.001).of(50), Draw(share=0.25).of(10), Draw(count=99).of(50)] == [1, 3, 50]
    for text in ("0", "-3", "0.0", "1.5", "-0.1"):
        with pytest.raises(ConfigError, match="was asked for"):
            parse_draw(text)


def test_files_of_ids_are_still_read(tmp_path: Path) -> None:
    (tmp_path / "ids").write_text("image3\nimage1\n")
    assert ids(take_subset(make(5), str(tmp_path / "ids"))) == ["image1", "image3"]
    assert ids(take_subset(make(5), tmp_path / "ids")) == ["image1", "image3"]
    with pytest.raises(DatasetError, match="does not exist"):
        take_subset(make(5), "none.txt")
