"""Commands on an index whose last change was interrupted, wherever that was: they see one state, whole."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from segmentation.cli import app


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.mark.parametrize("command", ["verify", "info"])
def test_an_interrupted_change_damages_nothing(
    command: str, index_on_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, renames, finished = os.replace, 0, False
    while not finished:
        copy = shutil.copytree(index_on_disk, tmp_path / f"copy{renames}")
        done: list[object] = []

        def replace(source: os.PathLike[str], target: os.PathLike[str]) -> None:
            if len(done) == renames:  # noqa: B023
                raise OSError(errno.EACCES, "denied", str(source))
            done.append(source)  # noqa: B023
            real(source, target)

        with monkeypatch.context() as patches:
            patches.setattr(os, "replace", replace)
            finished = run("index", "remove", copy, "memory-1").exit_code == 0
        result = run("index", command, copy)
        assert result.exit_code == 0, f"after {renames} renames: {result.stderr}"
        renames += 1
    assert renames > 1, "some changes were interrupted"
