from __future__ import annotations

from pathlib import Path

import pytest

from .command import TINY, run, write_photos


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photos(tmp_path_factory.mktemp("cli") / "data")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "tiny.yaml"
    path.write_text(TINY)
    return path


@pytest.fixture(scope="module")
def index(data: Path, tiny: Path) -> Path:
    out = data.parent / "tiny.index"
    result = run("index", "build", data, "--config", tiny, "--out", out)
    assert result.exit_code == 0, result.output
    return out
