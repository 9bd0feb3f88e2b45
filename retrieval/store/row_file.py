"""A growing ``.npy`` file: rows are appended as they come, and read back memory-mapped."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from retrieval.errors import REPAIR, IndexDamagedError
from retrieval.store.blocks import HEADER
from retrieval.store.commit import IndexFiles
from retrieval.store.files import storage_errors, sync_file

#: Bytes of our header; fixed, so that the number of rows can be corrected in place.
_HEADER = HEADER


class RowFile:
    """Rows of one shape and dtype in the file ``name`` of an index, a plain ``.npy`` file.

    Stored rows never change: others are appended behind them, where they are of no state; :meth:`stage`
    completes the file, and whoever has committed it calls :meth:`committed`. How many rows of it a state has,
    the manifest says, and not the header. A file of formats 1 to 3, or of several hard
    links, is copied once, before it grows. A failed
    append leaves the rows before it untouched. Not safe for several writers.
    """

    def __init__(self, files: IndexFiles, name: str, shape: tuple[int, ...], dtype: npt.DTypeLike) -> None:
        self.name = name
        self._files = files
        self._path = files.current(name)
        self._shape = shape
        self._dtype = np.dtype(dtype)
        self._row_bytes = int(np.prod(shape, dtype=np.int64)) * self._dtype.itemsize
        self._rows = 0
        self._stored = self._grows = False
        self._writer: BinaryIO | None = None
        self._view: npt.NDArray[Any] | None = None

    @classmethod
    def open(cls, files: IndexFiles, name: str, shape: tuple[int, ...], dtype: npt.DTypeLike) -> RowFile:
        """Open an existing file; raises IndexDamagedError when it is not what was stored."""
        file = cls(files, name, shape, dtype)
        path, entry = file._path, files.entry(name)
        try:
            if entry is not None and entry.blocks is not None:
                file._grows, file._rows = True, (entry.bytes - _HEADER) // max(1, file._row_bytes)
                stated, dtype_there = _header_of(path)
                fits = (stated, dtype_there) == (shape, file._dtype)
                stored = file._map() if fits else np.empty((0, *stated), dtype_there)
            else:
                # Copy-on-write: counts as writable, which torch.from_numpy asks for, yet the file is not.
                stored = np.load(path, mmap_mode="c", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise IndexDamagedError(f"{path} cannot be read as an array ({error}); {REPAIR}") from error
        if stored.shape[1:] != shape or stored.dtype != file._dtype:
            raise IndexDamagedError(
                f"{path} holds rows of shape {stored.shape[1:]} and type {stored.dtype}, expected {shape} "
                f"and {file._dtype}; {REPAIR}"
            )
        file._rows, file._stored = len(stored), True
        file._view = stored  # kept: a later change may sweep the file away
        return file

    def __len__(self) -> int:
        return self._rows

    def append(self, rows: npt.NDArray[Any]) -> None:
        """Append rows, (n, *shape) of any dtype that casts to the stored one."""
        block = np.ascontiguousarray(rows, dtype=self._dtype)
        if block.shape[1:] != self._shape:
            raise ValueError(f"rows of shape {block.shape[1:]} do not fit {self.name} of {self._shape}")
        with storage_errors(self._files.folder):
            writer = self._open_writer()
            writer.seek(_HEADER + self._rows * self._row_bytes)
            writer.write(block.tobytes())
            writer.flush()
        self._rows += len(block)
        self._view = None

    def keep(self, rows: int) -> None:
        """Forget the rows after the first ``rows`` (undoes an append that was not staged yet)."""
        if rows < self._rows:
            self._rows = rows
            self._view = None

    def array(self) -> npt.NDArray[Any]:
        """All rows, (N, *shape), memory-mapped: pages are read when touched, changes are not stored."""
        if self._view is None:
            self._view = self._map()
        return self._view

    def stage(self) -> dict[str, Path]:
        """Complete and sync the next version: its name and file; nothing when no row was appended."""
        if self._writer is None and self._stored:
            return {}
        with storage_errors(self._files.folder):
            writer = self._open_writer()
            writer.truncate(_HEADER + self._rows * self._row_bytes)
            writer.seek(0)
            writer.write(self._header())
            sync_file(writer)
        return {self.name: self._path}

    def committed(self) -> None:
        """The next version is the stored one now."""
        if self._writer is not None:
            self._writer.close()
            self._writer, self._stored, self._grows = None, True, True
            self._view = self._map()  # at once: a later change may sweep the file away

    def close(self) -> None:
        """Release the file; rows that were not committed are forgotten."""
        self._view = None
        if self._writer is not None:
            with contextlib.suppress(OSError):  # of a write that failed before, and was told
                self._writer.close()
            self._writer = None

    def _open_writer(self) -> BinaryIO:
        if self._writer is None:
            self._files.grow(self.name)
            # a file of several names is a copy's too (cp -l, snapshots), which has rows of its own to come
            if self._grows and self._path.stat().st_nlink <= 1:
                self._writer = self._path.open("r+b")
                return self._writer
            old, path = self._path, self._files.next(self.name)
            writer = path.open("w+b")
            try:
                writer.write(self._header())
                if self._rows:
                    self._copy_rows(old, writer)
            except BaseException:
                writer.close()
                raise
            self._writer, self._path = writer, path
        return self._writer

    def _copy_rows(self, old: Path, writer: BinaryIO) -> None:
        with old.open("rb") as file:
            file.seek(_HEADER if self._grows else old.stat().st_size - self._rows * self._row_bytes)
            left = self._rows * self._row_bytes  # what lies behind them is of no state, or of a later one
            while left > 0 and (piece := file.read(min(1 << 22, left))):
                left -= writer.write(piece)

    def _map(self) -> npt.NDArray[Any]:
        shape = (self._rows, *self._shape)
        if self._rows == 0:
            return np.empty(shape, dtype=self._dtype)
        path = self._path
        ours = self._grows or self._writer is not None
        offset = _HEADER if ours else path.stat().st_size - self._rows * self._row_bytes
        return np.memmap(path, dtype=self._dtype, mode="c", offset=offset, shape=shape)

    def _header(self) -> bytes:
        # always as wide, so that a reader meets no half of two headers
        shape = f"({self._rows:>15}, {''.join(f'{side}, ' for side in self._shape)})"
        descr = np.lib.format.dtype_to_descr(self._dtype)
        text = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}, }}"
        prefix = np.lib.format.magic(1, 0) + (_HEADER - 10).to_bytes(2, "little")
        return prefix + text.encode("latin1").ljust(_HEADER - 11) + b"\n"


def _header_of(path: Path) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape of a row and dtype that a growing file states; raises OSError and ValueError."""
    with path.open("rb") as file:
        np.lib.format.read_magic(file)
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    return tuple(shape[1:]), dtype
