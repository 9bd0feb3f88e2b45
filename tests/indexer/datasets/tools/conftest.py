"""Small files of labelling tools, and what is done to them to see what a reader says."""

from __future__ import annotations

import copy
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st
from PIL import Image

from indexer.datasets import load_dataset
from retrieval.errors import DatasetError, MaskError

MakeImage = Callable[..., Path]

#: What stands where something else was expected.
WRONG = st.sampled_from(
    [
        *(None, True, -1, 0, 7, 1e9, float("nan"), float("inf"), 10**400, [], {}, [1], [[1, 2]], ["x"], [[]]),
        *("", "x", "\ud800", "a\0b", "é" * 300, "10", "../../x", {"a": 1}, [None], [1, 2, 3, 4, 5, 6]),
    ]
)


@pytest.fixture
def picture() -> MakeImage:
    """``picture(path, height, width)``: an image of noise, 6 x 8 by default."""

    def make(path: Path, height: int = 6, width: int = 8) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(zlib.crc32(str(path).encode()))
        Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8)).save(path)
        return path

    return make


def places(data: Any) -> Iterator[tuple[Any, ...]]:
    """The path of keys to every value in parsed JSON."""
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in items:
        yield (key,)
        yield from ((key, *rest) for rest in places(value))


@pytest.fixture(scope="session")
def mutated() -> Callable[[Any], st.SearchStrategy[Any]]:
    """``mutated(data)``: strategy of parsed JSON with one value, at any depth, taken away or replaced."""
    return _mutated


@pytest.fixture(scope="session")
def reads_or_refuses() -> Callable[[Path, str], None]:
    """``reads_or_refuses(root, format)``: read all masks; fails for any error but ours that name the file."""
    return _reads_or_refuses


def _mutated(valid: Any) -> st.SearchStrategy[Any]:
    def change(place: tuple[Any, ...], value: Any, drop: bool) -> Any:
        data = copy.deepcopy(valid)
        target = data
        for key in place[:-1]:
            target = target[key]
        if drop:
            del target[place[-1]]
        else:
            target[place[-1]] = value
        return data

    return st.builds(change, st.sampled_from(list(places(valid))), WRONG, st.booleans())


def _reads_or_refuses(root: Path, format: str) -> None:
    try:
        dataset = load_dataset(root, format=format)
    except DatasetError as error:
        assert str(root) in str(error)
        return
    for sample in dataset.samples:
        sample.labels.key()
        try:
            labels = sample.labels.read()
        except MaskError as error:
            assert str(root) in str(error)
        else:
            assert labels.dtype == np.int32
            assert -1 <= labels.min() <= labels.max() < len(dataset.classes)
