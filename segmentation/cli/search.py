"""``mycelia search``: which memory patches decide what a pixel is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from retrieval.errors import ConfigError
from segmentation.cli.arguments import FreeOverrides, IndexPath, MaxPixels
from segmentation.cli.console import format_percent, say, show_json, show_table
from segmentation.cli.files import check_file
from segmentation.cli.overrides import changed_recipe, open_segmenter

if TYPE_CHECKING:
    from retrieval.folder import IndexFolder
    from retrieval.neighbors import Filter
    from segmentation.explain import Vote


#: Digits of a pixel's row or column.
MOST_DIGITS = 9


def parse_position(text: str) -> tuple[int, int]:
    """A pixel's (row, col) from ``ROW,COL``; a usage error where that is not two whole numbers from 0."""
    row, _, col = (part.strip() for part in text.partition(","))
    if not (row.isdecimal() and col.isdecimal() and max(len(row), len(col)) <= MOST_DIGITS):
        shown = text if len(text) <= 40 else f"{text[:40]}..."
        raise typer.BadParameter(f"expected ROW,COL, for example 120,300, not {shown!r}", param_hint="--at")
    return int(row), int(col)


def search(
    index: IndexPath,
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="The photo to ask about.")],
    overrides: FreeOverrides = None,
    *,
    at: Annotated[
        str,
        typer.Option("--at", metavar="ROW,COL", help="The pixel, counted from the photo's top left corner."),
    ],
    k: Annotated[int | None, typer.Option("--k", min=1, help="How many memory patches to list.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the patches as JSON.")] = False,
    picture: Annotated[
        Path | None,
        typer.Option(
            "--picture",
            help="Write a picture (PNG) of the pixel and of the patches; replaces only what Mycelia wrote.",
        ),
    ] = None,
    only_image: Annotated[
        list[str] | None, typer.Option("--only-image", metavar="ID", help="Let only this memory image vote.")
    ] = None,
    not_class: Annotated[
        list[str] | None,
        typer.Option("--not-class", metavar="NAME", help="Let no patch vote that is mostly of this class."),
    ] = None,
    max_pixels: MaxPixels = None,
) -> None:
    """List the memory patches that vote on one pixel.

    The heaviest vote comes first; row and col count patches of the memory image.

    \b
    Examples:
      mycelia search my.index photo.jpg --at 120,300
      mycelia search my.index photo.jpg --at 120,300 --k 10 --picture why.png
      mycelia search my.index photo.jpg --at 120,300 --not-class road --only-image 0001TP_006690
      mycelia search my.index photo.jpg --at 120,300 transfer.k=50 runtime.device=cpu

    \b
    Settings (KEY=VALUE) that may differ from those of the build, as `mycelia evaluate --help` lists them:
      transfer.*  runtime.*  rerank.candidates  image.shifts  image.flip  image.overlap
    """
    row, col = parse_position(at)
    if picture is not None:
        check_file(picture, "--picture")

    from indexer.images import read_image
    from retrieval import IndexFolder

    folder = IndexFolder.open(index)
    recipe = changed_recipe(folder, overrides)
    photo = read_image(image)
    chosen = make_filter(folder, only_image or (), not_class or ())
    with open_segmenter(folder, recipe) as segmenter:
        result = segmenter.label(segmenter.describe(photo), filter=chosen)
        votes = result.explain(row, col)[:k]
    if not votes:
        raise ConfigError("--only-image and --not-class leave no memory patch to vote; allow more of them")
    winner = segmenter.classes.names[int(result.winners[row, col])]
    say(f"{image} at row {row}, column {col}: {winner}, confidence {result.confidence[row, col]:.2f}")
    if picture is not None:
        from segmentation.drawing.votes import write_vote_picture

        patch = result.grid.patch_box(*result.patch_at(row, col))
        title = f"{winner}, confidence {result.confidence[row, col]:.2f}"
        write_vote_picture(picture, photo, patch, votes, title=title)
        say(f"picture: {picture}")
    if as_json:
        show_json([asdict(vote) for vote in votes])
    else:
        show_votes(votes)


def make_filter(folder: IndexFolder, only_image: Sequence[str], not_class: Sequence[str]) -> Filter | None:
    """The filter that the options ask for; ConfigError for an image or a class that the index lacks."""
    if not only_image and not not_class:
        return None
    from retrieval.neighbors import Filter
    from retrieval.store.records import image_numbers

    columns = {name: column for column, name in enumerate(folder.manifest.classes.names)}
    images = image_numbers(folder.records, only_image, where=folder.path) if only_image else None
    unknown = [name for name in not_class if name not in columns]
    if unknown:
        raise ConfigError(f"there is no class {unknown[0]!r}; this index has {', '.join(columns)}")
    return Filter(images=images, not_classes=[columns[name] for name in not_class])


def show_votes(votes: list[Vote]) -> None:
    """The votes as a table on stdout; row and column are those of the memory image's patch grid."""
    show_table(
        None,
        ["image", "row", "col", "similarity", "weight", "label"],
        [
            [
                vote.image_id,
                str(vote.patch[0]),
                str(vote.patch[1]),
                f"{vote.similarity:.3f}",
                format_percent(vote.weight),
                ", ".join(f"{name} {format_percent(share)}" for name, share in vote.label.items()),
            ]
            for vote in votes
        ],
        text=("image", "label"),
    )
