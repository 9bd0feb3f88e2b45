from __future__ import annotations

from pathlib import Path

import pytest

from .toy import build_memory, install_toy, write_memory


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    install_toy(monkeypatch)


@pytest.fixture
def memory(tmp_path: Path, toy: None) -> Path:
    """An index of four photos of each class."""
    return build_memory(tmp_path / "toy.index", write_memory(tmp_path / "memory"))
