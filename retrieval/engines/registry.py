"""Which engines there are: those of this folder, and those that installed packages bring."""

from __future__ import annotations

import glob
import re
from pathlib import Path
from typing import Any

from retrieval.engines.exact import EXACT
from retrieval.engines.faiss import FAISS
from retrieval.engines.qdrant.spec import EDGE, SERVER
from retrieval.engines.spec import EngineSpec
from retrieval.errors import IndexDamagedError, IndexMismatchError
from retrieval.plugins import load_plugins, plugin_packages
from retrieval.store.manifest import Manifest, has_manifest

#: Entry points of this group load to an :class:`EngineSpec`.
GROUP = "mycelia.engines"

#: A scheme: an address of some engine, not a folder. ``Path`` makes one slash of two.
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+:/")

ENGINES: tuple[EngineSpec, ...] = (EXACT, FAISS, EDGE, SERVER)


def engines() -> tuple[EngineSpec, ...]:
    """Every engine there is."""
    return (*ENGINES, *load_plugins(GROUP, EngineSpec))


def engines_named(name: str) -> tuple[EngineSpec, ...]:
    """The engines that ``index.engine=name`` may mean; none for an unknown name."""
    own = tuple(spec for spec in ENGINES if spec.name == name)
    return own or tuple(spec for spec in load_plugins(GROUP, EngineSpec) if spec.name == name)


def engine_of(manifest: Manifest, where: Path) -> EngineSpec:
    """The engine that holds an index's vectors; ``where`` names the index in messages.

    Raises IndexMismatchError for an engine that is not known here, IndexDamagedError where none is named.
    """
    kind: Any = manifest.engine.get("kind")
    if kind is None:
        raise IndexDamagedError(f"the manifest in {where} names no engine; build the index again")
    known = {spec.kind: spec for spec in ENGINES}
    found = known.get(kind) or next((s for s in load_plugins(GROUP, EngineSpec) if s.kind == kind), None)
    if found is None:
        raise IndexMismatchError(
            f"{where} uses the engine {kind!r}, which this Mycelia does not know; update Mycelia, or install "
            "the package that brings it"
        )
    return found


def local_folder(path: str | Path) -> Path:
    """The folder of an index: ``path`` itself, or what an engine fetches for an address of its own."""
    for spec in engines() if _ADDRESS.match(str(path)) else ():
        found = spec.fetch(path)
        if found is not None:
            return found
    return _share_of(Path(path))


def _share_of(folder: Path) -> Path:
    """The folder, or where there is none, the first share of a parallel build: all open the same."""
    if folder.exists():
        return folder
    shares = sorted(folder.parent.glob(f"{glob.escape(folder.name)}.shard-*-of-*"))
    return next((share for share in shares if has_manifest(share)), folder)


def engine_packages() -> tuple[str, ...]:
    """Distributions whose versions decide what engines find; what others bring is not loaded for it."""
    own = [name for spec in ENGINES for name in spec.packages]
    return tuple(dict.fromkeys([*own, *plugin_packages(GROUP)]))
