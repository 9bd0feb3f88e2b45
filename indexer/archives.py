"""Archives of images in the place of folders: unpacked into a private folder for as long as they are used.

Every reader of a layout looks for files, so that reading members in place would have to change all of them.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import lzma
import os
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO

from filelock import FileLock, Timeout

from retrieval.errors import DatasetError
from retrieval.store.files import storage_errors
from retrieval.store.paths import real_path

#: Name endings (lower case) that count as archives.
ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
#: Most files and bytes that an archive may hold.
MOST_FILES = 2_000_000
MOST_BYTES = 200_000_000_000
#: An archive of more than ``FREE_BYTES`` may hold at most this many times its own size: images hardly shrink.
MOST_GROWTH = 100
FREE_BYTES = 1_000_000_000

_BLOCK = 1 << 20
_DAMAGED = (
    *(zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, lzma.LZMAError),
    *(NotImplementedError, ValueError),
)
#: Folder of what macOS writes beside the files of a zip.
_OF_MACOS = "__MACOSX"
_LOG = logging.getLogger("mycelia")


@dataclass(frozen=True)
class _Member:
    """A file of an archive."""

    name: str
    size: int
    """Bytes, as declared."""
    changed: float
    """Seconds of the system's time."""


def is_archive(path: Path) -> bool:
    """Whether a path is a file with an archive's ending."""
    return path.name.lower().endswith(ARCHIVE_SUFFIXES) and path.is_file()


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """A folder with the files of an archive, which is removed afterwards; another path as it is.

    It lies in the system's folder for temporary files, and an archive that has not changed gets the same one
    again, so that a stopped build goes on. Links of zip files, symbolic links and devices are left out, and
    how many is logged.
    Raises DatasetError for an archive that is damaged or encrypted, holds more than :data:`MOST_FILES`,
    :data:`MOST_BYTES`, :data:`MOST_GROWTH` times its size or than the disk has free, or a name that leads
    outside; StorageError for a full disk.
    """
    if not is_archive(path):
        yield path
        return
    with _private_folder(path) as folder:
        name = path.name[: -len(next(s for s in ARCHIVE_SUFFIXES if path.name.lower().endswith(s)))]
        root = folder / (name or "archive")
        with storage_errors(folder):
            root.mkdir()
            _unpack(path, root)
        inside = list(root.iterdir())
        yield inside[0] if len(inside) == 1 and inside[0].is_dir() else root


@contextmanager
def _private_folder(path: Path) -> Iterator[Path]:
    """An empty folder that this user alone may enter: the archive's own, or if that is in use a new one."""
    state = path.stat()
    key = f"{real_path(path)}\n{state.st_size}\n{state.st_mtime_ns}"
    digest = hashlib.sha256(key.encode(errors="backslashreplace")).hexdigest()[:20]
    with ExitStack() as stack:
        place = Path(tempfile.gettempdir()) / f"mycelia-{digest}"
        if not _lock(place, stack):
            place = Path(tempfile.mkdtemp(prefix="mycelia-"))
        folder = place / "files"
        shutil.rmtree(folder, ignore_errors=True)  # of a run that was killed
        with storage_errors(place):
            folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)  # before its lock, which others may take from then on
            shutil.rmtree(place, ignore_errors=True)


def _lock(place: Path, stack: ExitStack) -> bool:
    """Take a folder until the stack is closed; False where another has it, or made it."""
    try:
        place.mkdir(mode=0o700, exist_ok=True)
        found = place.lstat()
        if hasattr(os, "getuid") and (found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) != 0o700):
            return False
        if not stat.S_ISDIR(found.st_mode):
            return False
        stack.enter_context(FileLock(place / "lock", timeout=0))
    except (OSError, Timeout):
        return False
    return True


def _unpack(path: Path, root: Path) -> None:
    try:
        unpack = _unpack_zip if path.suffix.lower() == ".zip" else _unpack_tar
        left_out = unpack(path, root)
    except _DAMAGED as problem:
        raise DatasetError(
            f"{path} is damaged or no archive ({problem or type(problem).__name__}); fetch it again"
        ) from problem
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as problem:
        raise DatasetError(f"{path} holds a file and a folder of one name; unpack it by hand") from problem
    except OSError as problem:
        # the disk's; a place before the file's beginning is the archive's
        if problem.errno not in (None, errno.EINVAL):
            raise
        raise DatasetError(f"{path} is damaged or no archive ({problem}); fetch it again") from problem
    if left_out:
        _LOG.info("left out of %s: %d links or special files", path, left_out)


def _unpack_zip(path: Path, root: Path) -> int:
    with zipfile.ZipFile(path) as file:
        infos = [info for info in file.infolist() if not (info.is_dir() or _is_of_macos(info.filename))]
        links = [info for info in infos if stat.S_ISLNK(info.external_attr >> 16)]
        if any(info.flag_bits & 1 for info in infos):
            raise DatasetError(f"{path} is encrypted; unpack it with its password and give the folder")
        writer = _Writer(path, root)
        plain = [info for info in infos if info not in links] if links else infos
        writer.check(len(plain), sum(info.file_size for info in plain))
        for info in plain:
            with file.open(info) as content:
                writer.write(_Member(info.filename, info.file_size, _time_of(info)), content)
    return len(links)


def _is_of_macos(name: str) -> bool:
    return PurePosixPath(name.replace("\\", "/")).parts[:1] == (_OF_MACOS,)


def _time_of(info: zipfile.ZipInfo) -> float:
    """When a file of a zip was changed, in the system's time; 0 where it states no such moment."""
    try:
        return datetime(*info.date_time).timestamp()
    except (ValueError, OverflowError, OSError):
        return 0.0


def _unpack_tar(path: Path, root: Path) -> int:
    """One pass: a compressed tar says what it holds only where it stands."""
    left_out = 0
    writer = _Writer(path, root)
    with tarfile.open(path) as file:
        for info in file:
            if info.isdir():
                continue
            content = _content_of(file, info)
            if content is None:
                left_out += 1
                continue
            with content:
                writer.write(_Member(info.name, info.size, float(info.mtime)), content)
        while file.fileobj is not None and file.fileobj.read(_BLOCK):
            pass  # to the end, where the checksum of what is compressed is
    return left_out


def _content_of(file: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes] | None:
    """What a member holds; None for one that is no file.

    A hard link is a file that came before, if it leads anywhere; a symbolic one may lead anywhere else.
    """
    try:
        return file.extractfile(info) if info.isreg() or info.islnk() else None
    except (KeyError, RecursionError):
        return None


class _Writer:
    """Writes members below a folder, and refuses what leads outside it or grows too large."""

    def __init__(self, archive: Path, root: Path) -> None:
        self._archive, self._root = archive, root
        size = archive.stat().st_size
        self._most = min(MOST_BYTES, max(FREE_BYTES, MOST_GROWTH * size), shutil.disk_usage(root).free)
        self._files = self._bytes = 0

    def check(self, files: int, size: int) -> None:
        """Raise DatasetError for too many files or bytes."""
        if files > MOST_FILES:
            raise DatasetError(
                f"{self._archive} holds more than {MOST_FILES:,} files; unpack it by hand if you trust it"
            )
        if size > self._most:
            raise DatasetError(
                f"{self._archive} would take more than {self._most:,} bytes on the disk, the limit against "
                f"decompression bombs and full disks (of {tempfile.gettempdir()}; TMPDIR names another); "
                "unpack it by hand if you trust it"
            )

    def write(self, member: _Member, content: IO[bytes]) -> None:
        """Write one file; its bytes are counted, whatever it declared."""
        target = self._root.joinpath(*self._parts(member.name))
        self._files += 1
        self.check(self._files, self._bytes + member.size)
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as file:
            while block := content.read(_BLOCK):
                self._bytes += len(block)
                self.check(self._files, self._bytes)
                file.write(block)
        # by which a build that goes on knows a file again
        os.utime(target, (member.changed, member.changed))

    def _parts(self, name: str) -> tuple[str, ...]:
        """The names on the way to a member; raises DatasetError where they lead outside the folder."""
        plain = name.replace("\\", "/")
        parts = PurePosixPath(plain).parts
        absolute = plain.startswith("/") or bool(PureWindowsPath(name).drive)
        if absolute or not parts or ".." in parts or "\0" in name:
            raise DatasetError(
                f"{self._archive} holds {name!r}, a name that leads outside its folder; do not trust it, or "
                "unpack it by hand"
            )
        return parts
