"""Archives where a command takes folders: unpacked while the command runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer

_KEY = "mycelia.archives"


def unpack(context: typer.Context, path: Path) -> Path:
    """The folder of an archive, until the command ends; any other path as it is. Raises DatasetError."""
    from indexer.archives import is_archive, unpacked
    from segmentation.cli.console import say

    if context.resilient_parsing or not is_archive(path):
        return path
    say(f"unpacking {path} into a temporary folder")
    folder = context.with_resource(unpacked(path))
    context.meta.setdefault(_KEY, {})[folder] = path
    return folder


def given(context: typer.Context, path: Path) -> Path:
    """A path below an archive's folder as one below the archive; any other as it is."""
    for folder, archive in context.meta.get(_KEY, {}).items():
        if path.is_relative_to(folder):
            return Path(archive, path.relative_to(folder))
    return path


def with_given(context: typer.Context, entries: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """What is said of photos, their paths in archives as :func:`given`."""
    return [{**entry, "image": str(given(context, Path(entry["image"])))} for entry in entries]
