"""The files of the page: few bytes, nothing from elsewhere, nothing inline, and shipped."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[4]
PAGE = ROOT / "segmentation" / "service" / "page"
#: For the type check alone; no browser asks for it.
UNLOADED = {"types.js", "tsconfig.json"}
FILES = sorted(path for path in PAGE.iterdir() if path.is_file())
SHIPPED = [path for path in FILES if path.name not in UNLOADED]


def test_the_first_view_is_small() -> None:
    assert sum(path.stat().st_size for path in SHIPPED) < 150_000


def test_every_file_is_small() -> None:
    lines = {path.name: len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert {name: count for name, count in lines.items() if count > 400} == {}


def test_every_module_is_reached_from_the_page() -> None:
    """What ``index.html`` loads, and what that imports, is exactly what is shipped."""
    html = (PAGE / "index.html").read_text(encoding="utf-8")
    reached, open = set(), re.findall(r'(?:src|href)="assets/([\w.]+)"', html)
    while open:
        name = open.pop()
        if name in reached:
            continue
        reached.add(name)
        open += re.findall(r'^import .*?"\./([\w.]+)";', (PAGE / name).read_text(), re.MULTILINE | re.DOTALL)
    assert reached | {"index.html"} == {path.name for path in SHIPPED}


def test_nothing_comes_from_elsewhere_or_stands_inline() -> None:
    for path in SHIPPED:
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://|//cdn|@import url", text), path.name
    html = (PAGE / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", html)


def test_wheel_and_sdist_have_the_page(tmp_path: Path) -> None:
    pytest.importorskip("hatchling")
    for build in ("build_wheel", "build_sdist"):
        code = f"import sys; from hatchling.build import {build}; {build}(sys.argv[1])"
        subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, check=True, capture_output=True)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        names = {
            Path(name).name for name in wheel.namelist() if name.startswith("segmentation/service/page/")
        }
    assert {path.name for path in SHIPPED} <= names
    assert "tsconfig.json" not in names
    with tarfile.open(next(tmp_path.glob("*.tar.gz"))) as sdist:
        packed = {name.partition("/")[2] for name in sdist.getnames()}
    assert {str(path.relative_to(ROOT)) for path in FILES} <= packed
    assert "tools/page/package-lock.json" in packed
