"""``mycelia index compact`` from the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from retrieval import open_index, read_manifest
from segmentation.cli import app


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_an_index_is_compacted_inspected_and_converted(index_on_disk: Path, tmp_path: Path) -> None:
    small, flat = tmp_path / "small", tmp_path / "copy"
    result = run("index", "compact", index_on_disk, "--keep", "0.25", "--out", small, "--to", "exact")
    assert result.exit_code == 0, result.output
    rows = len(open_index(small))
    assert 20 <= rows <= 28  # a quarter of four images of 24 patches
    assert f"{rows} rows that stand for 96 rows" in result.stdout
    assert read_manifest(small).engine["kind"] == "exact"
    assert f"{rows} patches, merged from 96" in run("index", "info", small).stdout
    assert run("index", "verify", small).exit_code == 0
    assert run("index", "convert", small, "--to", "exact", "--out", flat).exit_code == 0
    weights = [np.load(folder / "weights.npy", allow_pickle=False) for folder in (small, flat)]
    np.testing.assert_array_equal(*weights)
    assert weights[0].sum() == pytest.approx(96, rel=1e-3)


def test_what_cannot_be_is_said_in_one_line(index_on_disk: Path, tmp_path: Path) -> None:
    result = run("index", "compact", index_on_disk, "--keep", "2", "--out", tmp_path / "small")
    assert result.exit_code == 1 and "above 0 and below 1, not 2" in result.stderr
    result = run("index", "compact", index_on_disk, "--keep", "0.5", "--out", index_on_disk)
    assert result.exit_code == 1 and "holds an index already" in result.stderr
    result = run("index", "compact", index_on_disk, "transfer.k=3", "--keep", "0.5", "--out", tmp_path / "s")
    assert result.exit_code == 1 and "only index.*" in result.stderr
    assert not (tmp_path / "small").exists()
