"""The matrix kernels of the BLAS that FAISS brings along."""

from __future__ import annotations

import os
from pathlib import Path

#: What OpenBLAS's AVX-512 kernels need, by the names of ``/proc/cpuinfo``.
_NEEDED = frozenset({"avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl"})
_CORE = "OPENBLAS_CORETYPE"


def choose_kernels(cpuinfo: Path = Path("/proc/cpuinfo")) -> None:
    """Have an OpenBLAS that is loaded later take its AVX-512 kernels where the processor has them.

    An OpenBLAS that is older than the processor does not know its name and falls back to kernels of
    2004: with the one in the wheel faiss-cpu 1.15, coarse search was three times as slow as it
    could be on a Xeon of 2023. Does nothing where ``OPENBLAS_CORETYPE`` is set, or off Linux.
    """
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    flags = next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), [])
    if set(flags) >= _NEEDED:
        os.environ.setdefault(_CORE, "SkylakeX")
