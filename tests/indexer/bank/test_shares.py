"""One bank built in shares: the same rows as in one go, in one collection of the client's own store."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from indexer.bank.build import build_index
from indexer.bank.shares import Share
from retrieval import open_index
from retrieval.engines.qdrant import collection as collection_module
from retrieval.errors import ConfigError

qdrant_client = pytest.importorskip("qdrant_client")

SERVER = ("index.engine=qdrant", "index.qdrant.url=':memory:'", "index.qdrant.collection=bank")


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Any:
    """One store that outlives the connections to it."""
    client = qdrant_client.QdrantClient(":memory:")
    monkeypatch.setattr(client, "close", lambda: None)
    monkeypatch.setattr(collection_module, "connect", lambda settings: client)
    return client


def rows_of(path: Path) -> tuple[Any, ...]:
    with open_index(path) as index:
        blocks = list(index.stream())
    return tuple(
        np.concatenate([getattr(b, name) for b in blocks]) for name in ("patches", "labels", "vectors")
    )


def test_shares_make_the_bank_of_one_build(
    tmp_path: Path, labelled_folder: Callable[..., Any], tiny_recipe: Callable[..., Any], store: Any
) -> None:
    dataset = labelled_folder(5)
    whole = build_index(dataset, tmp_path / "whole", recipe=tiny_recipe("index.engine=exact"))
    recipe = tiny_recipe(*SERVER)
    out = tmp_path / "server"
    reports = [build_index(dataset, out, recipe=recipe, share=Share(number, 3)) for number in (1, 2, 3)]
    assert sum(report.rows for report in reports) == whole.rows
    assert sum(report.images for report in reports) == 5
    assert reports[1].path.name == "server.shard-00002-of-00003"
    (again,) = [build_index(dataset, tmp_path / "rerun", recipe=recipe, share=Share(2, 3))]
    assert again.rows == reports[1].rows
    wanted, found = rows_of(whole.path), rows_of(reports[2].path)
    np.testing.assert_array_equal(found[0], wanted[0])
    np.testing.assert_array_equal(found[1], wanted[1])
    np.testing.assert_allclose(found[2], wanted[2], atol=1e-6)
    with open_index(reports[0].path) as index:
        assert len(index) == whole.rows == index.manifest.counts["rows"]


@pytest.mark.usefixtures("store", "small_parts")
def test_a_resumed_share_keeps_the_features_of_all(
    tmp_path: Path,
    labelled_folder: Callable[..., Any],
    tiny_recipe: Callable[..., Any],
    stop_after: Callable[[int], AbstractContextManager[None]],
    count_parts: Callable[[], list[int]],
) -> None:
    dataset, recipe, first = labelled_folder(8), tiny_recipe(*SERVER), Share(1, 2)  # images 0, 2 and 4, 6
    out = tmp_path / "server"
    with stop_after(1):
        build_index(dataset, out, recipe=recipe, share=first)
    features = first.out(out).with_name(first.out(out).name + ".partial") / "features.safetensors"
    fitted = features.read_bytes()
    with Image.open(
        dataset.samples[1].image
    ) as image:  # of the other share, but the features are fitted on it
        image.transpose(Image.Transpose.ROTATE_180).save(dataset.samples[1].image)
    features.unlink()
    computed = count_parts()
    build_index(dataset, out, recipe=recipe, share=first)
    assert computed == [1]
    assert (first.out(out) / "features.safetensors").read_bytes() == fitted


def test_more_shares_than_images(
    tmp_path: Path, labelled_folder: Callable[..., Any], tiny_recipe: Callable[..., Any], store: Any
) -> None:
    dataset = labelled_folder(1)
    reports = [
        build_index(dataset, tmp_path / "x", recipe=tiny_recipe(*SERVER), share=Share(number, 2))
        for number in (1, 2)
    ]
    assert reports[0].rows > 0 and reports[1].rows == 0


def test_shares_need_a_server(
    tmp_path: Path, labelled_folder: Callable[..., Any], tiny_recipe: Callable[..., Any]
) -> None:
    with pytest.raises(ConfigError, match="--shard needs a Qdrant server"):
        build_index(labelled_folder(2), tmp_path / "x", recipe=tiny_recipe(), share=Share(1, 2))


def test_an_engine_that_is_not_there_is_told_before_the_work(
    tmp_path: Path, labelled_folder: Callable[..., Any], tiny_recipe: Callable[..., Any]
) -> None:
    recipe = tiny_recipe(*SERVER, "index.qdrant.collection=null")
    with pytest.raises(ConfigError, match=r"index\.qdrant\.collection=NAME"):
        build_index(labelled_folder(2), tmp_path / "x", recipe=recipe)
    assert not list(tmp_path.glob("x*"))


@pytest.mark.parametrize("text", ["0/3", "4/3", "1", "a/b", "1/0", "-1/3"])
def test_impossible_shares(text: str) -> None:
    with pytest.raises(ConfigError, match="should be NUMBER/OF"):
        Share.parse(text)


def test_shares_are_parsed() -> None:
    assert Share.parse("3/16") == Share(3, 16)


@pytest.mark.usefixtures("store")
def test_what_an_earlier_run_uploaded_of_a_changed_image_goes(
    tmp_path: Path, labelled_folder: Callable[..., Any], tiny_recipe: Callable[..., Any]
) -> None:
    dataset, recipe = labelled_folder(3), tiny_recipe(*SERVER)
    before = build_index(dataset, tmp_path / "first", recipe=recipe)
    path = dataset.samples[1].labels.path
    with Image.open(path) as mask:
        fewer = np.array(mask)
    fewer[: len(fewer) // 2] = 255  # half of it is unlabelled now
    Image.fromarray(fewer).save(path)
    after = build_index(dataset, tmp_path / "second", recipe=recipe)
    assert 0 < after.rows < before.rows
    with open_index(after.path) as index:
        assert len(index) == after.rows == index.manifest.counts["rows"]
