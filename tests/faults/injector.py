"""The library of ``inject.c``: compiled, put before the system's own, and armed."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path

#: What may happen at a point, in the order of ``enum mode``; none is for counting.
FAULTS = ("none", "kill", "torn", "full", "error", "dead")

#: What each fault means.
MEANINGS = {
    "kill": "the process is killed before the call",
    "torn": "a write puts half of its bytes and the process is killed; or it is killed after the call",
    "full": "a write puts half of its bytes, and from there on the disk is full (ENOSPC)",
    "error": "the call fails once (EIO)",
    "dead": "this call and every later one fail (EIO)",
}

#: The kinds of calls, in the order of ``enum kind``.
KINDS = ("open", "write", "sync", "rename", "unlink", "mkdir", "resize", "link", "close")

_SOURCE = Path(__file__).parent / "inject.c"
_VARIABLE = "LD_PRELOAD"


def why_not() -> str:
    """Why faults cannot be injected here; empty where they can."""
    if not sys.platform.startswith("linux"):
        return "LD_PRELOAD and /proc are Linux's"
    if shutil.which("cc") is None:
        return "there is no C compiler (cc)"
    return ""


def compile_library(folder: Path) -> Path:
    """The shared library, made in ``folder``; raises subprocess.CalledProcessError with what cc says."""
    path = folder / "inject.so"
    flags = ["-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    subprocess.run(["cc", *flags, "-o", str(path), str(_SOURCE), "-ldl"], check=True)
    return path


def environment(library: Path) -> dict[str, str]:
    """The environment of a process whose calls go through the library; one thread, so that points repeat."""
    return {**os.environ, _VARIABLE: str(library), "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


class Injector:
    """The library in this process, which was started with :func:`environment`."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(os.environ[_VARIABLE])
        self._library.fault_arm.argtypes = [ctypes.c_char_p, ctypes.c_long, ctypes.c_int]
        self._library.fault_disarm.restype = ctypes.c_long
        self._library.fault_kind.argtypes = [ctypes.c_long]
        self._library.fault_path.argtypes = [ctypes.c_long]
        self._library.fault_path.restype = ctypes.c_char_p

    def arm(self, folder: Path, point: int, fault: str) -> None:
        """Count calls below ``folder`` from now on; ``fault`` happens at the one of number ``point``."""
        self._library.fault_arm(os.fsencode(folder), point, FAULTS.index(fault))

    def disarm(self) -> list[tuple[str, str]]:
        """End it; kind and path of all calls that were counted, in their order.

        Paths are known where nothing but counting was asked for; of a rename, the new one and the old one, a
        line each.
        """
        numbers = range(1, self._library.fault_disarm() + 1)
        paths = [os.fsdecode(self._library.fault_path(number) or b"") for number in numbers]
        return [(KINDS[self._library.fault_kind(n)], path) for n, path in zip(numbers, paths, strict=True)]
