"""One build on many machines: each takes a share of the images and fills the same Qdrant collection."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from indexer.bank.jobs import BankJob
from retrieval import IndexSettings, Manifest
from retrieval.engines.spec import EngineSpec, SharedFiles
from retrieval.errors import ConfigError
from retrieval.store.files import atomic_write
from retrieval.store.layout import FEATURES


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


def check_share(engine: EngineSpec) -> None:
    """Raise ConfigError for an engine that several processes cannot fill."""
    if not engine.many_writers:
        raise ConfigError(
            "--shard needs a Qdrant server, which many may fill at once: give --engine qdrant --url "
            "http://HOST:6333 --collection NAME"
        )


@contextmanager
def shared_features(settings: IndexSettings, manifest: Manifest, path: Path) -> Iterator[bool]:
    """Make the features at ``path`` those of the first share that fitted any.

    Fitted tensors differ in their last bits from machine to machine, and all rows of a bank need the
    same ones: what the others share already is put at ``path`` before the block, which is given whether
    there is any and fits them only where there is none; what the first builder fitted is there after it.
    """
    open_files = settings.spec.shared_files
    assert open_files is not None  # an engine with many writers has them
    with open_files(settings.section, manifest) as files:
        yield _fetch(files, path)
        files.put(FEATURES, path.read_bytes())
        _fetch(files, path)


def _fetch(files: SharedFiles, path: Path) -> bool:
    """Put the shared features at ``path``; whether there are any."""
    content = files.get(FEATURES)
    if content is None:
        return False
    if not path.is_file() or path.read_bytes() != content:
        with atomic_write(path) as file:
            file.write(content)
    return True
