"""What a process of inputs may do: write below one folder, start nothing, reach nobody, take some memory."""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path
from typing import Any

#: Memory that one input may take on top of what the process has, MiB: 24 bytes for each of the 89,478,485
#: pixels that a photo may have.
MOST_MEMORY = 24 * 89_478_485 // 2**20
#: Address space on top of what the process has, MiB: keeps the machine alive.
MOST_SPACE = 6 * 1024

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_STARTING = ("os.system", "os.exec", "os.posix_spawn", "os.spawn", "subprocess.Popen", "pickle.find_class")
#: Events of which the first ``n`` arguments are paths that change.
_CHANGING = {
    **{"os.mkdir": 1, "os.remove": 1, "os.rmdir": 1, "os.truncate": 1, "os.chmod": 1, "os.utime": 1},
    **{"os.rename": 2, "os.link": 2, "os.symlink": 2, "shutil.rmtree": 1, "shutil.move": 2},
}
_ALLOWED = ("/dev/null", "/dev/tty", "/proc/self/clear_refs")


class Guard:
    """Stops, and notes, what goes beyond ``root`` or changes something below ``fixed``."""

    def __init__(self, root: Path, fixed: Path) -> None:
        self._root, self._fixed = os.path.realpath(root), os.path.realpath(fixed)
        self.breaches: list[str] = []
        self._base = 0

    def start(self) -> None:
        """Begin, for the rest of this process's life."""
        sys.addaudithook(self._hear)
        space = _status("VmSize") * 1024 + MOST_SPACE * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (space, space))

    def begin(self) -> None:
        """Before an input."""
        self.breaches.clear()
        with Path("/proc/self/clear_refs").open("w") as file:
            file.write("5")
        self._base = _status("VmRSS")

    def taken(self) -> int:
        """Memory that the input took at its most, MiB."""
        return max(0, _status("VmHWM") - self._base) // 1024

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, mode, flags = arguments
            writes = any(c in mode for c in "wax+") if isinstance(mode, str) else (flags or 0) & _WRITING
            if writes and isinstance(path, str | bytes | os.PathLike):
                self._check("write", path)
        elif (count := _CHANGING.get(event)) is not None:
            for path in arguments[1:count] if event == "os.symlink" else arguments[:count]:
                by_name = arguments[-1] in (-1, None) or event in ("os.truncate", "shutil.move")
                if by_name and isinstance(path, str | bytes | os.PathLike):
                    self._check(event, path)
        elif event in _STARTING and arguments[0] != "fc-list":  # matplotlib's, which looks for fonts
            self._note(f"{event} {arguments!r:.200}")
        elif event == "socket.connect" and not self._is_here(arguments[1]):
            self._note(f"connects to {arguments[1]!r:.200}")

    def _is_here(self, address: Any) -> bool:
        return not isinstance(address, tuple) or str(address[0]) in ("127.0.0.1", "::1")

    def _check(self, what: str, path: Any) -> None:
        name = os.fsdecode(path)
        if name in _ALLOWED:
            return
        if what == "os.mkdir" and os.path.lexists(name):  # which changes nothing
            return
        # of a link that is replaced, its place counts; of one that is written through, its target
        folder, last = os.path.split(name)
        real = os.path.realpath(name) if what == "write" else f"{os.path.realpath(folder or '.')}/{last}"
        lock = real.endswith(".lock")
        if not _below(real, self._root) or (_below(real, self._fixed) and not lock):
            self._note(f"{what} {name!r}")

    def _note(self, breach: str) -> None:
        self.breaches.append(breach)
        raise PermissionError(13, "the guard of the tests forbids it", breach)


def _below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder + os.sep)


def _status(name: str) -> int:
    """A number of this process's, KiB."""
    with Path("/proc/self/status").open() as file:
        for line in file:
            if line.startswith(name + ":"):
                return int(line.split()[1])
    raise OSError(f"the system does not say {name}")
