"""Calls from Python with numbers that fit no index, results sent elsewhere, and forks."""

from __future__ import annotations

import os
import pickle
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from retrieval import ClassInfo, ClassMap, Cosine, IndexSettings, Manifest, PatchIndex, create_index
from retrieval.errors import ConfigError, IndexClosedError
from segmentation.bound import BoundToIndex
from segmentation.classification.matches import MatchBook
from segmentation.explain import VoteBook

ENGINES = ("exact", "faiss", "qdrant")
NEEDS = {"faiss": "faiss", "qdrant": "qdrant_edge"}
WIDTH = 8


def make(folder: Path, engine: str) -> PatchIndex:
    if engine in NEEDS:
        pytest.importorskip(NEEDS[engine])
    classes = ClassMap(tuple(ClassInfo(i, f"class {i}", (i, i, i)) for i in range(3)))
    manifest = Manifest(classes, Cosine(WIDTH), recipe={"seed": 1})
    return create_index(folder, manifest, rows=4, settings=IndexSettings(engine=engine))


def rows(count: int = 4) -> dict[str, Any]:
    vectors = np.eye(WIDTH, dtype=np.float32)[:count]
    labels = np.tile(np.array([255, 0, 0], np.uint8), (count, 1))
    return {"vectors": vectors, "labels": labels, "patches": np.zeros((count, 3), np.int32)}


def with_one(name: str, value: Any, dtype: Any = None) -> dict[str, Any]:
    """Rows of which one number is another."""
    given = rows()
    given[name] = given[name].astype(dtype or np.asarray(value).dtype)
    given[name][1, 0] = value
    return given


BAD = [
    (with_one("labels", 0.7, np.float32), "whole numbers, 0 to 255, not float32"),
    (with_one("labels", True), "not bool"),
    (with_one("labels", 256, np.int64), "got 0 to 256"),
    (with_one("labels", -1, np.int64), "got -1 to 255"),
    (with_one("patches", -1, np.int32), "got -1 to 0"),
    (with_one("patches", 2**40, np.int64), "got 0 to 1099511627776"),
    (with_one("patches", 0.5, np.float64), "not float64"),
    (with_one("vectors", np.nan, np.float32), "NaN"),
    (with_one("vectors", 1e30, np.float32), "65504"),
    (with_one("vectors", -1e30, np.float32), "65504"),
    (with_one("vectors", 1j), "complex128"),
]


@pytest.mark.parametrize("engine", ENGINES)
def test_rows_that_fit_no_index_are_refused_and_none_is_added(tmp_path: Path, engine: str) -> None:
    with make(tmp_path / "i", engine) as index:
        for given, message in BAD:
            with pytest.raises(ConfigError, match=message):
                index.add(**given)
            assert len(index) == 0
        index.add(**{**rows(), "labels": rows()["labels"].astype(np.int64)})
        assert len(index) == 4


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(-(2**62), 2**62), st.sampled_from(["labels", "patches"]))
def test_a_whole_number_is_kept_or_refused(tmp_path: Path, value: int, name: str) -> None:
    high = 255 if name == "labels" else 2**31 - 1
    with make(tmp_path / f"{value}{name}", "exact") as index:
        given_rows = with_one(name, value, np.int64)
        if not 0 <= value <= high:
            with pytest.raises(ConfigError, match="whole numbers"):
                index.add(**given_rows)
            return
        ids = index.add(**given_rows)
        index.flush()
        found = index.patches(ids) if name == "patches" else next(iter(index.stream())).labels
        assert found[1, 0] == value


@pytest.mark.parametrize("engine", ENGINES)
def test_k_is_any_whole_number(tmp_path: Path, engine: str) -> None:
    with make(tmp_path / "i", engine) as index:
        index.add(**rows())
        index.flush()
        query = rows(1)["vectors"]
        expected = index.search(query, 3)
        for k in (np.int64(3), np.uint8(3), np.int16(3)):
            np.testing.assert_array_equal(index.search(query, k).ids, expected.ids)  # type: ignore[arg-type]
        for bad in (2.5, "3", None, 2**40, 0, np.int64(-1)):
            with pytest.raises(ConfigError, match="k must be"):
                index.search(query, bad)  # type: ignore[arg-type]
        assert pickle.loads(pickle.dumps(expected)).ids.tolist() == expected.ids.tolist()


def test_a_pickled_result_has_all_but_its_index(world: Callable[..., Any], scene: Callable[..., Any]) -> None:
    segmenter = world()
    result = segmenter.segment(scene(1, (40, 60))[0])
    copy = pickle.loads(pickle.dumps(result))
    np.testing.assert_array_equal(copy.mask, result.mask)
    np.testing.assert_array_equal(copy.pixels.winners().columns, result.columns)
    assert result.explain(3, 4)
    with pytest.raises(IndexClosedError, match="left its index behind"):
        copy.explain(3, 4)
    assert issubclass(MatchBook, BoundToIndex) and issubclass(VoteBook, BoundToIndex)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks are POSIX's")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_is_told_to_open_the_index_again(tmp_path: Path) -> None:
    with make(tmp_path / "i", "qdrant") as index:
        index.add(**rows())
        index.flush()
        child = os.fork()
        if not child:
            signal.alarm(20)
            try:
                index.search(rows(1)["vectors"], 1)
            except IndexClosedError as error:
                index.close()
                os._exit(7 if "forked" in str(error) else 8)
            os._exit(9)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        assert len(index.search(rows(1)["vectors"], 1).ids) == 1
