"""One build on many machines: each takes a share of the images and fills the same Qdrant collection."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from indexer.bank.jobs import BankJob
from indexer.features.fungi import FEATURES_FILE
from indexer.recipe import Recipe
from retrieval import Manifest
from retrieval.engines.qdrant.collection import Collection
from retrieval.engines.qdrant.server import ServerIndex, open_collection
from retrieval.errors import ConfigError
from retrieval.progress import Progress, track
from retrieval.store.files import atomic_write


@dataclass(frozen=True)
class Share:
    """Part ``number`` of ``of`` (1 to ``of``) of a data set's images."""

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Share:
        """From ``3/16``. Raises ConfigError."""
        match = re.fullmatch(r"([1-9]\d{0,4})/([1-9]\d{0,4})", text)
        if match is None or int(match[1]) > int(match[2]):
            raise ConfigError(f"--shard {text!r} should be NUMBER/OF, from 1/16 to 16/16 for sixteen shares")
        return cls(int(match[1]), int(match[2]))

    def jobs(self, jobs: Sequence[BankJob]) -> list[BankJob]:
        """The jobs of this share; numbers stay those of the whole bank."""
        return [job for job in jobs if job.number % self.of == self.number - 1]

    def out(self, out: Path) -> Path:
        """The folder of this share, so that all of them may be given the same ``--out``."""
        return out.with_name(f"{out.name}.shard-{self.number:05d}-of-{self.of:05d}")


def check_share(recipe: Recipe) -> None:
    """Raise ConfigError for an engine that several processes cannot fill."""
    if recipe.index.engine != "qdrant" or recipe.index.qdrant.url is None:
        raise ConfigError(
            "--shard needs a Qdrant server, which many may fill at once: give --engine qdrant --url "
            "http://HOST:6333 --collection NAME"
        )


def reach_server(recipe: Recipe, manifest: Manifest) -> None:
    """Raise now, not after hours of extraction, what a Qdrant server's absence would raise at the end.

    The collection is made; nothing is done for other engines. Raises MissingExtraError, ConfigError,
    ServerError, and IndexMismatchError where the collection holds another bank.
    """
    if recipe.index.engine == "qdrant" and recipe.index.qdrant.url is not None:
        open_collection(recipe.index.qdrant, manifest).close()


@contextmanager
def shared_features(recipe: Recipe, manifest: Manifest, path: Path) -> Iterator[bool]:
    """Make the features at ``path`` those of the first share that fitted any.

    Fitted tensors differ in their last bits from machine to machine, and all rows of a bank need the
    same ones: what the collection has already is put at ``path`` before the block, which is given whether
    it has any and fits them only where it has none; what the first builder fitted is there after it.
    """
    collection = open_collection(recipe.index.qdrant, manifest)
    try:
        yield _fetch(collection, path)
        collection.put_file(FEATURES_FILE, path.read_bytes(), first_wins=True)
        _fetch(collection, path)
    finally:
        collection.close()


def _fetch(collection: Collection, path: Path) -> bool:
    """Put the collection's features at ``path``; whether it has any."""
    if not any(file.name == FEATURES_FILE for file in collection.files(FEATURES_FILE)):
        return False
    content = collection.get_file(FEATURES_FILE)
    if not path.is_file() or path.read_bytes() != content:
        with atomic_write(path) as file:
            file.write(content)
    return True


@contextmanager
def server_progress(index: ServerIndex, progress: Progress | None) -> Iterator[None]:
    """Report how far the server is with its graph, while the block flushes ``index``."""
    with track(progress, "graph", max(1, len(index))) as task:
        known = 0

        def report(done: int, total: int) -> None:
            nonlocal known
            task.advance(max(0, done - known))
            known = max(known, done)

        index.progress = report
        yield
