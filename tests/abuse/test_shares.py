"""The name of a parallel build opens any of its shares."""

from __future__ import annotations

import shutil
from pathlib import Path

from retrieval import IndexFolder
from retrieval.engines.registry import local_folder

from ..segmentation.cli.command import TINY, error_of, run, write_photos


def test_the_name_of_a_parallel_build_opens_a_share(tmp_path: Path) -> None:
    data = write_photos(tmp_path / "data")
    (tmp_path / "tiny.yaml").write_text(TINY)
    out = tmp_path / "s[1].index"
    arguments = ("index", "build", data, "--config", tmp_path / "tiny.yaml", "--out", out)
    result = run(*arguments, "--shard", "1/2")
    share = tmp_path / "s[1].index.shard-00001-of-00002"
    assert "needs a Qdrant server" in error_of(result)
    assert f"into {share}" in result.stderr.partition("error: ")[0]
    assert local_folder(out) == out
    assert run(*arguments).exit_code == 0
    shutil.move(out, tmp_path / "s[1].index.shard-00002-of-00002")
    share.mkdir()  # one that is not done
    assert IndexFolder.open(out).path.name == "s[1].index.shard-00002-of-00002"
    assert run("index", "info", out).exit_code == 0
