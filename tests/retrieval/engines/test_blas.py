"""Which kernels FAISS's OpenBLAS is told to take."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from retrieval.engines.blas import choose_kernels

WIDE = "fpu sse2 avx2 avx512f avx512cd avx512bw avx512dq avx512vl avx512_bf16"


@pytest.mark.parametrize(
    ("cpuinfo", "chosen"),
    [
        (f"processor\t: 0\nflags\t\t: {WIDE}\nbugs\t:\n", "SkylakeX"),
        ("processor\t: 0\nflags\t\t: fpu sse2 avx2 avx512f\n", None),
        ("Features\t: fp asimd\n", None),
        (None, None),
    ],
)
def test_wide_kernels_for_processors_that_have_them(
    cpuinfo: str | None, chosen: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENBLAS_CORETYPE", "to be restored")
    del os.environ["OPENBLAS_CORETYPE"]
    if cpuinfo is not None:
        (tmp_path / "cpuinfo").write_text(cpuinfo)
    choose_kernels(tmp_path / "cpuinfo")
    assert os.environ.get("OPENBLAS_CORETYPE") == chosen


def test_the_users_choice_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    (tmp_path / "cpuinfo").write_text(f"flags : {WIDE}\n")
    choose_kernels(tmp_path / "cpuinfo")
    assert os.environ["OPENBLAS_CORETYPE"] == "Haswell"
