"""What the command says when it is stopped early, refused a file, or given a great deal."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from retrieval.errors import MyceliaError
from segmentation.cli.console import LONGEST, one_line

from ..segmentation.cli.command import TINY, error_of, run, write_photos

#: Sends Ctrl-C when a module is asked for.
STOPPED = """
import os, signal, sys
class Stop:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Stop())
from segmentation.cli import main
main()
"""


@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT")
@pytest.mark.parametrize("module", ["typer", "segmentation.cli.index", "segmentation.cli.tune"])
def test_stopped_while_it_loads(module: str) -> None:
    code = STOPPED.format(module=module)
    done = subprocess.run([sys.executable, "-c", code, "--version"], capture_output=True, timeout=120)
    assert (done.returncode, done.stderr) == (130, b"interrupted\n")


@given(st.text(alphabet="ab\n \u00e9", max_size=4 * LONGEST))
def test_a_message_is_one_line_of_bounded_length(text: str) -> None:
    shown = one_line(MyceliaError(text))
    words = " ".join(text.split())
    assert len(shown) <= LONGEST + 60 and "\n" not in shown
    if len(words) <= LONGEST:
        assert shown == words
    else:
        assert words.startswith(shown[: LONGEST // 2]) and words.endswith(shown[-LONGEST // 8 :])


def test_an_error_does_not_repeat_all_that_was_given(tmp_path: Path) -> None:
    data = write_photos(tmp_path / "data")
    (tmp_path / "tiny.yaml").write_text(TINY)
    asked = ("index", "build", data, "--config", tmp_path / "tiny.yaml", "--out", tmp_path / "i")
    error = error_of(run(*asked, "transfer.k=" + "x" * 100_000))
    assert len(error) < LONGEST + 100 and "xxx..." in error


def test_a_file_that_may_not_be_read_is_not_called_unwritable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_photos(tmp_path / "data")
    (tmp_path / "tiny.yaml").write_text(TINY)
    out = tmp_path / "i"
    assert run("index", "build", data, "--config", tmp_path / "tiny.yaml", "--out", out).exit_code == 0
    real = Path.open

    def refuse(path: Path, mode: str = "r", *rest: object, **more: object) -> object:
        if path.parent == out and path.suffix == ".npy":
            raise OSError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return real(path, mode, *rest, **more)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", refuse)
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).suffix != ".npy")
    error = error_of(run("index", "verify", out))
    assert "cannot be read" in error and "cannot be written" not in error


def test_no_warning_of_pillow_leaks(tmp_path: Path) -> None:
    photo = tmp_path / "photo.jpg"
    Image.new("RGB", (20, 20)).save(photo, exif=b"Exif\0\0II*\0\x08\0\0\0\x05\0\x12\x01")
    code = (
        "import sys, segmentation.cli; a = sys.modules['segmentation.cli.app']; "
        "from indexer.images import read_image; "
        "from pathlib import Path; a.app = lambda: print(read_image(Path(sys.argv[1])).shape); a.main()"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONWARNINGS"}
    done = subprocess.run(
        [sys.executable, "-c", code, str(photo)], capture_output=True, env=environment, timeout=120
    )
    assert done.returncode == 0 and b"(20, 20, 3)" in done.stdout
    assert done.stderr == b""
    without = code.replace("a.main()", "a.app()")
    told = subprocess.run([sys.executable, "-c", without, str(photo)], capture_output=True, env=environment)
    assert b"Warning" in told.stderr
