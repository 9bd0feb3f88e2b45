"""The errors of Mycelia, one small tree:

    MyceliaError
    ├── ConfigError          a recipe or an argument says something impossible
    ├── MissingExtraError    an optional dependency is not installed
    ├── WeightsError         weights missing, damaged, or made for another model
    ├── DataError            what the user's data holds is not what it should
    │   ├── DatasetError     layout unknown, nothing in it, two images with one id
    │   ├── ImageError       an image cannot be read
    │   ├── TextError        a text cannot be read, or has no word
    │   ├── AudioError       a recording cannot be read, or is silent
    │   └── MaskError        a mask cannot be read or does not fit its image
    ├── IndexFileError       the index on disk cannot be used
    │   ├── IndexExistsError     the folder is there already
    │   ├── IndexDamagedError    half-written, or a checksum differs
    │   ├── IndexMismatchError   made by other weights, another recipe or another format
    │   ├── IndexBusyError       another process changes it and does not finish
    │   └── IndexClosedError     used after it was closed
    ├── StorageError         disk full, folder read-only
    └── ServerError          a vector database server is away or refuses

Each message is one sentence or two: what was expected, what came, what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

#: What to do about a damaged index, the end of many a message.
REPAIR = "restore it from a copy or build the index again"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``; did you mean 'x'?`` for the known word nearest to ``word``, or nothing: the end of a message."""
    matches = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {matches[0]!r}?" if matches else ""


class MyceliaError(Exception):
    """Root of every error that Mycelia raises for its user."""


class ConfigError(MyceliaError):
    """A recipe, an override or an argument is unknown or impossible."""


class MissingExtraError(MyceliaError):
    """An optional dependency is missing; the message names the extra to install."""


class WeightsError(MyceliaError):
    """Weights are missing, damaged, or do not fit the model."""


class DataError(MyceliaError):
    """Images, masks or their folder are not what they should be."""


class DatasetError(DataError):
    """A data set's layout is unknown, or it is empty, or two images share an id."""


class ImageError(DataError):
    """An image is missing, truncated or unreadable."""


class TextError(DataError):
    """A text is unreadable or has no word."""


class AudioError(DataError):
    """A recording is missing, unreadable, silent or too short."""


class MaskError(DataError):
    """A mask is unreadable, of another size than its image, or holds an unknown class."""


class UnlabelledError(MaskError):
    """An image has no label at all."""


class IndexFileError(MyceliaError):
    """An index on disk cannot be used."""


class IndexExistsError(IndexFileError):
    """Something is already where a new index should go."""


class IndexDamagedError(IndexFileError):
    """An index is half-written or its files have changed."""


class IndexMismatchError(IndexFileError):
    """An index was made by other weights, another recipe or another format version."""


class IndexBusyError(IndexFileError):
    """Another process works on an index, or on the place where one should go."""


class ClassesChangedError(IndexBusyError):
    """Another process has changed the classes that labels were made for."""


class IndexClosedError(IndexFileError):
    """An index is asked or changed after it was closed."""


class StorageError(MyceliaError):
    """The disk is full or the folder cannot be written."""


class ServerError(MyceliaError):
    """A vector database server cannot be reached or refuses the request."""
