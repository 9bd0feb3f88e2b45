"""Names and paths that no one means to give: no text, links in a circle, pipes, empty, inside an index."""

from __future__ import annotations

import io
import json
import os
import socket
import string
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from indexer.datasets.keys import SourceKey
from indexer.images import read_image
from retrieval.errors import IndexExistsError, MyceliaError
from retrieval.store.paths import leads_nowhere, real_path, special_kind, text_path
from retrieval.store.staging import check_free
from segmentation.cli.console import show
from segmentation.cli.files import check_folder, check_names, check_place

from ..segmentation.cli.command import TINY, error_of, run, write_photos

pytestmark = pytest.mark.skipif(os.name != "posix", reason="pipes, and names that are no text, are POSIX's")

#: Bytes of names: most are no UTF-8.
NAMES = st.binary(min_size=1, max_size=20).filter(
    lambda name: b"/" not in name and b"\0" not in name and name not in (b".", b"..")
)
FEW = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def folder_named(root: Path, name: bytes) -> Path:
    folder = root / os.fsdecode(name)
    try:
        folder.mkdir(exist_ok=True)
    except OSError:
        pytest.skip("the file system wants names that are text")
    return folder


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos ``data`` and an index ``i`` of them."""
    root = tmp_path_factory.mktemp("paths")
    write_photos(root / "data")
    (root / "tiny.yaml").write_text(TINY)
    result = run("index", "build", root / "data", "--config", root / "tiny.yaml", "--out", root / "i")
    assert result.exit_code == 0, result.output
    return root


@FEW
@given(NAMES)
def test_a_library_of_texts_reaches_a_file_of_any_name(tmp_path: Path, name: bytes) -> None:
    folder = folder_named(tmp_path, name)
    for path in (folder / "vectors", folder / os.fsdecode(name)):
        path.write_bytes(name)
        with text_path(path) as text:
            assert text.encode()
            assert Path(text).read_bytes() == name
    before = len(list(Path("/dev/fd").iterdir()))
    with text_path(path):
        pass
    assert len(list(Path("/dev/fd").iterdir())) == before


@FEW
@given(st.text() | NAMES.map(os.fsdecode), st.sampled_from(["ascii", "cp1252", "utf-8", "utf-16"]))
def test_every_text_can_be_shown(text: str, encoding: str) -> None:
    stream, before = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict"), sys.stdout
    sys.stdout = stream
    try:
        show(text)
    finally:
        sys.stdout = before
    assert stream.buffer.getvalue()  # type: ignore[attr-defined]


@FEW
@given(st.lists(st.sampled_from(["a", "b", "c", "..", "."]), min_size=1, max_size=5))
def test_real_path_is_resolve_where_that_ends(tmp_path: Path, parts: list[str]) -> None:
    with suppress(FileExistsError):
        (tmp_path / "a").mkdir()
        (tmp_path / "b").symlink_to("a")
        (tmp_path / "c").symlink_to("c")
    path = tmp_path.joinpath(*parts)
    if "c" in parts:
        assert real_path(path).is_absolute()
    else:
        assert real_path(path) == path.resolve()


@FEW
@given(
    st.text(alphabet=string.ascii_letters + "=-/.", max_size=8), st.sampled_from(["--out", "-o", "--json"])
)
def test_only_empty_names_are_refused(name: str, option: str) -> None:
    import typer

    if name:
        check_names(["segment", option, "x" + name])
        return
    for arguments in ([option, name], [f"--out={name}"], [name]):
        with pytest.raises(typer.BadParameter, match="empty"):
            check_names(["segment", *arguments])
    check_names(["classify", "--text", name])


@pytest.mark.parametrize("engine", ["exact", "faiss", "qdrant"])
def test_an_index_in_a_folder_whose_name_is_no_text(built: Path, tmp_path: Path, engine: str) -> None:
    out = folder_named(tmp_path, b"caf\xe9") / os.fsdecode(b"i\xff")
    arguments = ("--config", built / "tiny.yaml", "--engine", engine, "--out", out)
    result = run("index", "build", built / "data", *arguments)
    assert result.exit_code == 0, result.output
    assert "i\\udcff" in result.stdout
    photo = built / "data" / "images" / "photo0.png"
    result = run("segment", out, photo, "--out", tmp_path / os.fsdecode(b"m\xe9"))
    assert result.exit_code == 0, result.output
    result = run("index", "add", out, write_photos(tmp_path / "more", count=4))
    assert result.exit_code == 0, result.output
    assert run("index", "remove", out, "photo1").exit_code == 0


@pytest.mark.parametrize("skip_bad", [True, False])
def test_photos_and_masks_whose_names_are_no_text(built: Path, tmp_path: Path, skip_bad: bool) -> None:
    data = write_photos(folder_named(tmp_path, b"d\xe9") / "data")
    for part in ("images", "masks"):
        (data / part / "photo0.png").rename(data / part / os.fsdecode(b"p\xe9\xff.png"))
    (data / "images" / "photo1.png").write_bytes(b"no image")
    (data / "images" / "photo1.png").rename(data / "images" / os.fsdecode(b"bad\xe9.png"))
    (data / "masks" / "photo1.png").rename(data / "masks" / os.fsdecode(b"bad\xe9.png"))
    options = ["--skip-bad"] if skip_bad else []
    out = tmp_path / "i"
    result = run("index", "build", data, "--config", built / "tiny.yaml", "--out", out, *options)
    if not skip_bad:
        assert "bad\\udce9.png" in error_of(result)
        return
    assert result.exit_code == 0, result.output
    assert "bad\\udce9" in result.stderr
    result = run("segment", out, data / "images", "--out", tmp_path / "m", "--skip-bad")
    assert result.exit_code == 0, result.output
    assert "p\\udce9\\udcff.png" in result.stdout


@pytest.fixture(params=["pipe", "socket", "device", "circle"])
def special(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "odd.png"
    if request.param == "pipe":
        os.mkfifo(path)
    elif request.param == "socket":
        with socket.socket(socket.AF_UNIX) as made:
            monkeypatch.chdir(tmp_path)  # a socket's name is short
            made.bind(path.name)
    elif request.param == "device":
        path.symlink_to("/dev/zero")
    else:
        path.symlink_to(path)
    return path


def test_what_is_no_file_is_said_and_never_waited_for(built: Path, tmp_path: Path, special: Path) -> None:
    kind = special_kind(special) or "in a circle"
    assert (kind == "in a circle") == leads_nowhere(special)
    with pytest.raises(MyceliaError, match=kind):
        read_image(special)
    assert SourceKey.of_file(special).sha256 == ""
    with pytest.raises(MyceliaError, match=kind):
        check_place(special, "--json")
    with pytest.raises(MyceliaError, match=kind):
        check_folder(special, "--report")
    with pytest.raises(IndexExistsError, match=r"circle|exists and is no index"):
        check_free(special)
    assert kind in error_of(run("segment", built / "i", special, "--out", tmp_path / "m"))
    result = run("segment", built / "i", special, "--out", tmp_path / "m", "--skip-bad")
    assert result.exit_code == 0, result.output
    assert kind in result.stderr
    photo = built / "data" / "images" / "photo0.png"
    assert kind in error_of(run("segment", built / "i", photo, "--out", special))
    report = ("--report", special, "--json", tmp_path / "r.json")
    assert kind in error_of(run("evaluate", built / "i", built / "data", *report))


def test_a_link_in_a_circle_where_a_mask_would_go(built: Path, tmp_path: Path) -> None:
    (tmp_path / "photo0.png").symlink_to("photo0.png")
    photo = built / "data" / "images" / "photo0.png"
    result = run("segment", built / "i", photo, "--out", tmp_path)
    assert result.exit_code in (0, 1)
    assert result.exception is None or isinstance(result.exception, SystemExit)


@pytest.mark.parametrize("option", [["--out", ""], ["--out="], ["-o", ""]])
def test_an_empty_out_is_not_the_folder_at_hand(
    built: Path, tmp_path: Path, option: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    photo = built / "data" / "images" / "photo0.png"
    for command in (["segment", built / "i", photo], ["index", "build", built / "data"]):
        result = run(*command, *option)
        assert result.exit_code == 2
        assert "got an empty text" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_made_inside_an_index(built: Path, tmp_path: Path) -> None:
    before = sorted(path.name for path in (built / "i").iterdir())
    inside = built / "i" / "sub" / "new"
    photo = built / "data" / "images" / "photo0.png"
    for command in (
        ("index", "convert", built / "i", "--to", "faiss", "--out", inside),
        ("index", "build", built / "data", "--config", built / "tiny.yaml", "--out", inside),
        ("segment", built / "i", photo, "--out", built / "i"),
        ("evaluate", built / "i", built / "data", "--report", inside),
    ):
        assert "lies inside the index" in error_of(run(*command)), command
    assert sorted(path.name for path in (built / "i").iterdir()) == before
    (tmp_path / "manifest.json").write_text(json.dumps({"name": "of a web page"}))
    check_free(tmp_path / "new")


def test_figures_have_names_that_are_no_text(tmp_path: Path) -> None:
    from segmentation.drawing.confusion import draw_confusion
    from segmentation.drawing.pictures import write_figure

    names = [os.fsdecode(b"caf\xe9"), "tea"]
    path = write_figure(tmp_path / "confusion.png", draw_confusion(np.eye(2), names))
    assert path.stat().st_size
