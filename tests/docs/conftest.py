from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent.parent

#: A random ViT of a few patches: what the pages promise is tested here, not how good it is.
TINY = """
backbone: {model: test_vit, weights: random}
image: {size: [64, 96]}
objective: {support_size: 16}
transfer: {k: 3}
runtime: {device: cpu}
"""


@pytest.fixture
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture
def tiny_recipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in the place of ``configs/``, whose default recipes have a tiny random ViT."""
    folder = tmp_path / "configs"
    folder.mkdir()
    for name in ("default.yaml", "offline.yaml"):
        (folder / name).write_text(TINY)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")  # nobody is asked which of the two it should be
    for module in ("indexer.recipe", "indexer.defaults"):
        monkeypatch.setattr(f"{module}.config_folder", lambda: folder)
    return folder


@pytest.fixture
def docs_script(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """``docs_script("make_settings")``: a script of docs/ as a module."""

    def load(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)  # its dataclasses look themselves up there
        spec.loader.exec_module(module)
        return module

    return load
