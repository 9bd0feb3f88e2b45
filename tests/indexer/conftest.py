"""What the indexer's tests share: a recipe with a tiny random ViT, and a small labelled folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from indexer.bank import parts
from indexer.datasets import Dataset, load_dataset
from indexer.features.fungi import FungiExtractor
from indexer.recipe import Recipe, load_recipe

TINY = (
    "backbone.model=test_vit",
    "backbone.weights=random",
    "image.size=[48,64]",
    "features.projection_width=24",
    "objective.infonce.head_width=16",
    "objective.infonce.support_size=32",
    "bank.max_patches=48",
    "runtime.device=cpu",
    "runtime.batch_size=2",
)


@pytest.fixture
def tiny_recipe() -> Callable[..., Recipe]:
    """``tiny_recipe("key=value", ...)``: a recipe with a tiny random ViT at 48 x 64."""

    def make(*overrides: str) -> Recipe:
        return load_recipe(None, [*TINY, *overrides])

    return make


@pytest.fixture
def tiny_extractor(tiny_recipe: Callable[..., Recipe]) -> Callable[..., FungiExtractor]:
    """``tiny_extractor("key=value", ...)``: an extractor of that recipe, fitted on random images."""

    def make(*overrides: str) -> FungiExtractor:
        extractor = FungiExtractor.create(tiny_recipe(*overrides))
        images = torch.randn(4, 3, *extractor.recipe.image.size, generator=torch.Generator().manual_seed(1))
        extractor.fit(lambda: images.split(2), images=4)
        return extractor

    return make


@pytest.fixture
def random_images() -> torch.Tensor:
    """(4, 3, 48, 64) prepared images."""
    return torch.randn(4, 3, 48, 64, generator=torch.Generator().manual_seed(2))


@pytest.fixture
def labelled_folder(tmp_path: Path) -> Callable[..., Dataset]:
    """``labelled_folder(images=6)``: a data set of noisy blocks of three classes, with ignored pixels."""

    def make(images: int = 6, *, name: str = "data") -> Dataset:
        root = tmp_path / name
        for part in ("images", "masks"):
            (root / part).mkdir(parents=True)
        for number in range(images):
            rng = np.random.default_rng(number)
            mask = np.kron(rng.integers(0, 3, (4, 5)), np.ones((17, 19), int)).astype(np.uint8)
            mask[:, :30] = 255 if number % 2 else mask[:, :30]
            mask[0, :3] = (0, 1, 2)
            photo = mask[:, :, None] % 3 * 80 + rng.integers(0, 60, (*mask.shape, 3))
            Image.fromarray(photo.astype(np.uint8)).save(root / "images" / f"photo{number}.png")
            Image.fromarray(mask).save(root / "masks" / f"photo{number}.png")
        return load_dataset(root)

    return make


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str, str], None]:
    """``install("toy", "mycelia.datasets", source)``: a package of one module, whose ``PLUGIN`` it names."""

    def make(name: str, group: str, source: str) -> None:
        site = tmp_path / "site"
        info = site / f"{name}-0.dist-info"
        info.mkdir(parents=True)
        (site / f"{name}.py").write_text(source)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0\n")
        (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {name}:PLUGIN\n")
        monkeypatch.syspath_prepend(site)

    return make


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Builds work in parts of two images, so that six images are three parts."""
    monkeypatch.setattr(parts, "PART_IMAGES", 2)


@pytest.fixture
def count_parts(monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[int]]:
    """``count_parts()``: a list to which every part that is computed from now on adds its number."""

    def start() -> list[int]:
        write, computed = parts.PartStore.write, []

        def counting(self: parts.PartStore, number: int, part: parts.Part) -> None:
            computed.append(number)
            write(self, number, part)

        monkeypatch.setattr(parts.PartStore, "write", counting)
        return computed

    return start


@pytest.fixture
def stop_after() -> Callable[[int], AbstractContextManager[None]]:
    """``with stop_after(2): build``: a build in the block is interrupted once two parts are written."""

    @contextmanager
    def stopping(count: int) -> Iterator[None]:
        write, written = parts.PartStore.write, []

        def writing(self: parts.PartStore, number: int, part: parts.Part) -> None:
            write(self, number, part)
            written.append(number)
            if len(written) == count:
                raise KeyboardInterrupt

        with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(parts.PartStore, "write", writing)
            yield

    return stopping


@pytest.fixture
def content() -> Callable[[Path], dict[str, bytes]]:
    """``content(index)``: all files of an index but the manifest, which tells the time."""

    def read(index: Path) -> dict[str, bytes]:
        paths = sorted(path for path in index.rglob("*") if path.is_file())
        files = {str(path.relative_to(index)): path.read_bytes() for path in paths}
        assert files.pop("manifest.json")
        return files

    return read
