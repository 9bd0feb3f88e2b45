"""A growing ``.npy`` file: rows are appended as they come, and read back memory-mapped."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from retrieval.errors import REPAIR, IndexDamagedError
from retrieval.store.files import pending_path, storage_errors, sync_file
from retrieval.store.manifest import is_committing

#: Bytes of our header; fixed, so that the number of rows can be corrected in place.
_HEADER = 128


class RowFile:
    """Rows of one shape and dtype in ``path``, a plain ``.npy`` file that ``numpy.load`` reads.

    The file at ``path`` never changes: the first append after opening copies it to
    ``path + ".new"``, where rows are added; :meth:`stage` completes that file, and whoever
    commits it renames it over ``path`` and calls :meth:`committed`. A failed append leaves the
    rows before it untouched. Not safe for several writers.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: npt.DTypeLike) -> None:
        self.path = path
        self._shape = shape
        self._dtype = np.dtype(dtype)
        self._row_bytes = int(np.prod(shape, dtype=np.int64)) * self._dtype.itemsize
        self._rows = 0
        self._stored = False
        self._writer: BinaryIO | None = None
        self._view: npt.NDArray[Any] | None = None

    @classmethod
    def open(cls, path: Path, shape: tuple[int, ...], dtype: npt.DTypeLike) -> RowFile:
        """Open an existing file; raises IndexDamagedError when it is not what was stored."""
        file = cls(path, shape, dtype)
        try:
            stored = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise IndexDamagedError(f"{path} cannot be read as an array ({error}); {REPAIR}") from error
        if stored.shape[1:] != shape or stored.dtype != file._dtype:
            raise IndexDamagedError(
                f"{path} holds rows of shape {stored.shape[1:]} and type {stored.dtype}, expected {shape} "
                f"and {file._dtype}; {REPAIR}"
            )
        file._rows = len(stored)
        file._stored = True
        return file

    def __len__(self) -> int:
        return self._rows

    def append(self, rows: npt.NDArray[Any]) -> None:
        """Append rows, (n, *shape) of any dtype that casts to the stored one."""
        block = np.ascontiguousarray(rows, dtype=self._dtype)
        if block.shape[1:] != self._shape:
            raise ValueError(f"rows of shape {block.shape[1:]} do not fit {self.path.name} of {self._shape}")
        with storage_errors(self.path.parent):
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

    def stage(self) -> bool:
        """Complete and sync the pending file; False when nothing was appended since the last commit."""
        if self._writer is None and self._stored:
            return False
        with storage_errors(self.path.parent):
            writer = self._open_writer()
            writer.truncate(_HEADER + self._rows * self._row_bytes)
            writer.seek(0)
            writer.write(self._header())
            sync_file(writer)
        return True

    def committed(self) -> None:
        """Forget the pending file: it has been renamed to ``path``."""
        self._close_writer()
        self._stored = True
        self._view = None

    def close(self) -> None:
        """Release the files; rows that were not committed are dropped with the pending file."""
        self._view = None
        if self._writer is not None:
            self._close_writer()
            if not is_committing(self.path.parent):
                pending_path(self.path).unlink(missing_ok=True)

    def _open_writer(self) -> BinaryIO:
        if self._writer is None:
            writer = pending_path(self.path).open("w+b")
            try:
                writer.write(self._header())
                if self._rows:
                    self._copy_rows(writer)
            except BaseException:
                writer.close()
                raise
            self._writer = writer
        return self._writer

    def _copy_rows(self, writer: BinaryIO) -> None:
        with self.path.open("rb") as old:
            old.seek(self.path.stat().st_size - self._rows * self._row_bytes)
            shutil.copyfileobj(old, writer, 1 << 22)

    def _close_writer(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _map(self) -> npt.NDArray[Any]:
        shape = (self._rows, *self._shape)
        if self._rows == 0:
            return np.empty(shape, dtype=self._dtype)
        path = self.path if self._writer is None else pending_path(self.path)
        offset = path.stat().st_size - self._rows * self._row_bytes if self._writer is None else _HEADER
        # Copy-on-write: the array counts as writable, which torch.from_numpy asks for, yet the file is not.
        return np.memmap(path, dtype=self._dtype, mode="c", offset=offset, shape=shape)

    def _header(self) -> bytes:
        shape = (self._rows, *self._shape)
        text = str(
            {"descr": np.lib.format.dtype_to_descr(self._dtype), "fortran_order": False, "shape": shape}
        )
        prefix = np.lib.format.magic(1, 0) + (_HEADER - 10).to_bytes(2, "little")
        return prefix + text.encode("latin1").ljust(_HEADER - 11) + b"\n"
