"""Whether a change was on the disk before it could be seen: what a power cut would take away."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from retrieval import read_manifest


class _Disk:
    """When files and folders were changed last, and synced last, as numbers of calls."""

    def __init__(self) -> None:
        self.changed: dict[str, int] = {}
        self.synced: dict[str, int] = {}

    def touch(self, path: str, now: int, *, name: bool) -> None:
        """A file was written; ``name``: or it, a folder or a link came to be, which changes its folder."""
        self.changed[path] = now
        if name:
            self.changed[_above(path)] = now

    def move(self, old: str, new: str, now: int) -> None:
        """A file or folder has another name, with all that is below it."""
        for times in (self.changed, self.synced):
            moved = {path: when for path, when in times.items() if _is_below(path, old)}
            for path in moved:
                del times[path]
            times |= {new + path.removeprefix(old): when for path, when in moved.items()}
        self.changed[_above(new)] = now

    def lost(self, paths: Iterable[str]) -> list[str]:
        """Those that were changed and not synced since."""
        return [path for path in paths if self.changed.get(path, 0) > self.synced.get(path, 0)]


def unsynced(calls: list[tuple[str, str]], result: Path) -> list[str]:
    """What of an index was not synced when its last state became visible, and what of its name is not yet.

    ``calls`` are all that its last change made: (kind, path).
    """
    manifest = result / "manifest.json"
    seen = max(
        (n for n, (k, path) in enumerate(calls, 1) if k == "rename" and _names(path, result)), default=0
    )
    if seen == 0:
        return [str(manifest)]  # written where it lies
    places = [read_manifest(result).place(result, name) for name in read_manifest(result).files]
    wanted = {str(path) for path in (manifest, *places)} | {str(path.parent) for path in places}
    disk, lost = _Disk(), list[str]()
    for now, (kind, path) in enumerate(calls, 1):
        new, _, old = path.partition("\n")
        if kind == "rename":
            before = old if now == seen and _is_below(str(manifest), new) else ""
            if before and new != str(manifest):  # the whole folder gets its name
                lost += disk.lost(before + place.removeprefix(new) for place in wanted)
            elif before:
                lost += disk.lost([before, *(wanted - {str(manifest)})])
            disk.move(old, new, now)
        elif kind in ("open", "mkdir", "link"):
            makes = kind != "open" or new not in disk.changed
            disk.touch(new, now, name=makes and new != f"{manifest}.part")  # whose name need not last
        elif kind in ("write", "resize", "close"):
            disk.touch(new, now, name=False)
        elif kind == "sync" and new:
            disk.synced[new] = now
    is_folder = calls[seen - 1][1].partition("\n")[0] == str(result)
    return sorted({*lost, *disk.lost([*wanted, *([str(result.parent)] if is_folder else [])])})


def _names(path: str, result: Path) -> bool:
    return path.partition("\n")[0] in (str(result), str(result / "manifest.json"))


def _is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder + "/")


def _above(path: str) -> str:
    return path.rpartition("/")[0]
