"""A service over a tiny index: two flat colours, seen by a random ViT of a few patches."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("fastapi")

from starlette.testclient import TestClient

from indexer.bank.build import build_index
from indexer.datasets import load_dataset
from indexer.recipe import load_recipe
from segmentation.segmenter import Segmenter
from segmentation.service.app import create_app
from segmentation.service.security import Keys
from segmentation.service.settings import ServiceSettings

TINY = """
backbone: {model: test_vit, weights: random}
image: {size: [64, 64]}
bank: {max_patches: null}
objective: {support_size: 16}
index: {engine: exact}
transfer: {k: 3}
runtime: {device: cpu, batch_size: 4}
"""

Serve = Callable[..., Any]


def picture(seed: int = 0, size: tuple[int, int] = (48, 70)) -> np.ndarray:
    """Left half dark, right half bright."""
    photo = np.random.default_rng(seed).integers(0, 80, size=(*size, 3))
    photo[:, size[1] // 2 :] += 150
    return photo.astype(np.uint8)


def encoded(array: np.ndarray, format: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, format)
    return file.getvalue()


def half_mask(size: tuple[int, int] = (48, 70)) -> np.ndarray:
    mask = np.zeros(size, dtype=np.uint8)
    mask[:, size[1] // 2 :] = 1
    return mask


@pytest.fixture
def photo() -> bytes:
    """A photo that the memory has not."""
    return encoded(picture(99))


@pytest.fixture
def make_photo() -> Callable[..., bytes]:
    return lambda seed, size=(48, 70): encoded(picture(seed, size))


@pytest.fixture
def mask() -> bytes:
    """The mask of every picture."""
    return encoded(half_mask())


@pytest.fixture(scope="session")
def built_index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("service")
    data = root / "data"
    (data / "images").mkdir(parents=True)
    (data / "masks").mkdir()
    for number in range(3):
        (data / "images" / f"photo{number}.png").write_bytes(encoded(picture(number)))
        (data / "masks" / f"photo{number}.png").write_bytes(encoded(half_mask()))
    (data / "classes.json").write_text(
        '{"classes": [{"id": 0, "name": "dark"}, {"id": 1, "name": "bright"}], "ignore": [255]}'
    )
    recipe = root / "tiny.yaml"
    recipe.write_text(TINY)
    build_index(load_dataset(data, format="folder"), root / "my.index", recipe=load_recipe(recipe, []))
    return root / "my.index"


@pytest.fixture
def index(built_index: Path, tmp_path: Path) -> Path:
    """A copy of its own for a test that may change it."""
    return Path(shutil.copytree(built_index, tmp_path / "my.index"))


@pytest.fixture
def serve(index: Path) -> Serve:
    """``with serve(queue=1) as client``: a service with these settings."""

    @contextmanager
    def run(
        *, keys: Keys | None = None, base: str = "http://localhost", **settings: Any
    ) -> Iterator[TestClient]:
        app = create_app(
            lambda: Segmenter.open(index), index, settings=ServiceSettings(**settings), keys=keys
        )
        with TestClient(app, base_url=base, raise_server_exceptions=False) as client:
            yield client

    return run


@pytest.fixture
def client(serve: Serve) -> Iterator[TestClient]:
    with serve() as client:
        yield client
