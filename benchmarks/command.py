"""The command line that benchmarks share, and the progress that they show."""

from __future__ import annotations

import argparse
from contextlib import AbstractContextManager
from pathlib import Path

from retrieval import progress
from segmentation.cli.progress import ProgressDisplay


def plain_parser(description: str | None) -> argparse.ArgumentParser:
    """A parser with ``--json`` and ``--out``, whose help is a script's docstring as it stands."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    parser.add_argument("--out", type=Path, help="write the tracked table, and pictures, to this folder")
    return parser


def index_parser(
    description: str | None, *, images: int | None, rows: int | None = None
) -> argparse.ArgumentParser:
    """A parser of an index, a data set and what is asked of them; ``None`` leaves out that option."""
    parser = plain_parser(description)
    parser.add_argument(
        "index", type=Path, help="the index, in a folder: an exact one where its rows are taken"
    )
    parser.add_argument("data", type=Path, help="labelled images to ask with")
    parser.add_argument("--split", default="val")
    if images is not None:
        parser.add_argument("--images", type=int, default=images, help="images of DATA, evenly spaced")
    if rows is not None:
        parser.add_argument("--rows", type=int, default=rows, help="rows of the index, evenly spaced")
    parser.add_argument("--threads", type=int, default=2, help="threads of torch and the engines")
    parser.add_argument("--cache", type=Path, help="folder that keeps what can be used again")
    return parser


def track(stage: str, total: int) -> AbstractContextManager[progress.Task]:
    """A stage of ``total`` items, shown on stderr as the command shows it."""
    return progress.track(ProgressDisplay(), stage, total)
