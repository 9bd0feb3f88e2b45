"""``mycelia inspect``: what a data set holds, and what is odd about it, before an index is built."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from indexer.kinds import NOUNS
from retrieval.errors import ConfigError
from segmentation.cli.arguments import (
    Config,
    DataPath,
    Format,
    ImageFolder,
    MaskFolder,
    MaxPixels,
    Overrides,
    Split,
    Subset,
    read_recipe,
)
from segmentation.cli.console import count_of, format_percent, say, show, show_json, show_table
from segmentation.cli.files import check_file
from segmentation.cli.progress import ProgressDisplay

if TYPE_CHECKING:
    from indexer.datasets.oddities import Oddity
    from indexer.datasets.survey import Shapes, Survey
    from indexer.recipe import Recipe

#: Rows of classes and lines of oddities that a person is shown.
MOST_CLASSES, MOST_ODDITIES = 40, 25


def inspect(
    data: DataPath,
    overrides: Overrides = None,
    *,
    split: Split = None,
    format: Format = "auto",
    subset: Subset = None,
    images: ImageFolder = None,
    masks: MaskFolder = None,
    config: Config = None,
    sample: Annotated[
        int,
        typer.Option(
            "--sample", min=1, metavar="N", help="Masks to read, evenly spaced; fewer of large ones."
        ),
    ] = 200,
    picture: Annotated[
        Path | None,
        typer.Option(
            "--picture",
            metavar="FILE",
            help="Write a sheet of images with their masks; replaces only what Mycelia wrote.",
        ),
    ] = None,
    max_pixels: MaxPixels = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was found as JSON.")] = False,
) -> None:
    """Look at labelled images before anything is built of them.

    Says how many images there are and of which sizes, how the folder was read, which classes the masks
    hold and how much of each, and what is odd: masks of another size, images without a mask, palettes that
    differ, equal images. What would stop a build is listed, and the look goes on. Takes seconds: masks
    are read from a sample.

    \b
    Examples:
      mycelia inspect my-data
      mycelia inspect camvid --split train --picture camvid.png
      mycelia inspect my-data --config offline.yaml image.size=[252,1596]
      mycelia inspect my-data --json > my-data.json
    """
    from indexer.datasets.survey import survey_folder

    if picture is not None:
        check_file(picture, "--picture")
    found, dataset = survey_folder(
        data,
        split=split,
        format=format,
        subset=subset,
        images=images,
        masks=masks,
        sample=sample,
        progress=ProgressDisplay(),
    )
    _, recipe = read_recipe(config, overrides or (), found.kind)
    if as_json:
        size = {"image_size": asdict(judge_size(found.shapes, recipe))} if found.kind == "image" else {}
        show_json({**found.to_json(), **size})
    else:
        show_survey(found, recipe)
    if picture is not None:
        if found.whole:
            raise ConfigError(
                f"--picture shows masks, but these {NOUNS[found.kind]}s have none; leave --picture out"
            )
        from segmentation.drawing.contact import contact_sheet
        from segmentation.drawing.pictures import write_image

        write_image(picture, contact_sheet(dataset, found))
        say(f"picture: {picture}")


def show_survey(found: Survey, recipe: Recipe) -> None:
    """Facts, the table of classes, then oddities, on stdout."""
    facts = [
        ("data set", f"{found.root} (format {found.format}: {found.why})"),
        (f"{NOUNS[found.kind]}s", _describe_images(found)),
        ("splits", ", ".join(f"{name} {count:,}" for name, count in found.splits)),
        *_describe_sizes(found, recipe),
        ("palettes", _describe_palettes(found)),
        *(("note", note) for note in found.notes),
        ("left out", ", ".join(f"{count:,} {ending}" for ending, count in found.left_out)),
        ("classes", _describe_classes(found)),
    ]
    for name, value in facts:
        if value:
            show(f"{name:<11} {value}")
    if found.whole:
        _show_class_counts(found)
    elif found.classes:
        rows = [
            [item.name, "" if item.id is None else str(item.id), _share(item.share), f"{item.images:,}"]
            for item in found.classes[:MOST_CLASSES]
        ]
        among = "images" if found.masks_read == found.images else f"of {count_of(found.masks_read, 'mask')}"
        show_table(None, ["class", "id", "% of pixels", among], rows)
        if len(found.classes) > MOST_CLASSES:
            show(f"and {len(found.classes) - MOST_CLASSES:,} more")
    for oddity in found.oddities[:MOST_ODDITIES]:
        show(_describe_oddity(oddity))
    if len(found.oddities) > MOST_ODDITIES:
        show(f"and {len(found.oddities) - MOST_ODDITIES:,} more oddities (--json lists all)")
    if not found.oddities:
        show("nothing odd")


def _describe_sizes(found: Survey, recipe: Recipe) -> list[tuple[str, str]]:
    """How large images are and how they will be seen, or how long texts are."""
    if not found.images:
        return []
    if found.kind == "image":
        return [
            ("sizes", describe_shapes(found.shapes, found.images)),
            ("image.size", judge_size(found.shapes, recipe).text),
        ]
    if found.words is None:
        return []
    short, middle, long = found.words
    return [("words", f"{short} to {long:,}, median {middle}")]


def _show_class_counts(found: Survey) -> None:
    """The classes of images that have them as a whole, and how many images each has, on stdout."""
    rows = [[item.name, str(item.id), f"{item.images:,}"] for item in found.classes[:MOST_CLASSES]]
    show_table(None, ["class", "id", f"{NOUNS[found.kind]}s"], rows)
    if len(found.classes) > MOST_CLASSES:
        show(f"and {len(found.classes) - MOST_CLASSES:,} more (--json lists all)")


def describe_shapes(shapes: Shapes, images: int) -> str:
    """The most common sizes and the extremes, height x width, of so many images."""
    if not shapes.common:
        return "no image could be read"
    common = ", ".join(f"{h} x {w} ({count:,})" for (h, w), count in shapes.common)
    part = f"from {shapes.read:,} of {count_of(images, 'image')}"
    if shapes.different == 1:
        return f"{common.split(' (')[0]} (height x width), {'all images' if shapes.read == images else part}"
    small, large = (f"{size[0]} x {size[1]}" for size in (shapes.smallest, shapes.largest) if size)
    low, middle, high = shapes.aspects
    aspect = f"{middle:.2f}" if high - low < 0.01 else f"{low:.2f} to {high:.2f}, median {middle:.2f}"
    return (
        f"{shapes.different} different, most common {common}; from {small} to {large} "
        f"(height x width); width / height {aspect}{'' if shapes.read == images else '; ' + part}"
    )


@dataclass(frozen=True)
class SizeAdvice:
    """Whether the recipe's ``image.size`` suits the images; sizes are (height, width), pixels."""

    size: tuple[int, int]
    suits: bool
    better: tuple[int, int] | None  #: a size to try where it does not
    text: str


def judge_size(shapes: Shapes, recipe: Recipe) -> SizeAdvice:
    """What ``image.size: auto`` takes, or whether a fixed size squashes most images, and what to try then."""
    from indexer.bank.image_size import chosen_size
    from indexer.features.backbone import patch_size_of
    from indexer.images.size import is_long, own_size

    if recipe.image.size == "auto":
        chosen = chosen_size(recipe, [shape for shape, count in shapes.common for _ in range(count)])
        height, width = chosen.size
        return SizeAdvice(chosen.size, True, None, f"auto takes {height} x {width}: {chosen.reason}")
    size = recipe.image.fixed_size
    height, width = size
    if shapes.median is None:
        return SizeAdvice(size, True, None, f"{height} x {width}")
    if recipe.image.scale is not None:
        text = f"{height} x {width} (the recipe's) is the size of the tiles in which images are seen at "
        return SizeAdvice(size, True, None, f"{text}image.scale {recipe.image.scale:g}")
    if recipe.image.fit == "pad" or not is_long(shapes.median, size):
        return SizeAdvice(size, True, None, f"{height} x {width} (the recipe's), which suits the images")
    better = own_size(shapes.median, usual=size, patch=patch_size_of(recipe.backbone.model))
    gap = shapes.aspects[1] * height / width
    how = "narrower" if gap > 1 else "lower"
    text = (
        f"{height} x {width} (the recipe's) makes the images {max(gap, 1 / gap):.1f} times {how} than "
        f"they are, and thin things get lost; try image.size=[{better[0]},{better[1]}]"
    )
    return SizeAdvice(size, False, better, text)


def _describe_images(found: Survey) -> str:
    of = f" in split {found.split}" if found.split else ""
    if found.whole:
        return f"{found.images:,}{of}, each labelled as a whole"
    if found.masked == found.images:
        return f"{found.images:,}{of}, each with a mask"
    return f"{found.images:,}{of}, {found.masked:,} with a mask, {found.images - found.masked:,} without"


def _describe_palettes(found: Survey) -> str:
    if not found.palettes:
        return ""
    if found.palettes == 1:
        return "one, the same in all masks"
    return f"{found.palettes} different ones: the same id has another colour from file to file"


def _describe_classes(found: Survey) -> str:
    if found.whole:
        several = sum(item.images for item in found.classes) > found.images
        return f"{len(found.classes)} of whole {NOUNS[found.kind]}s{', several of some' if several else ''}"
    sample = f"from {found.masks_read:,} of {count_of(found.masked, 'mask')}"
    if not found.named:
        return f"unknown; {count_of(len(found.classes), 'id or colour', 'ids or colours')} found, {sample}"
    unlabelled = f"{_share(found.unlabelled)} % of the pixels unlabelled"
    return f"{len(found.classes)}, {unlabelled}, {sample}"


def _share(share: float) -> str:
    """Percent with one decimal, or as many as a rare class takes."""
    return f"{100 * share:.2g}" if 0 < share < 0.001 else format_percent(share)


def _describe_oddity(oddity: Oddity) -> str:
    if oddity.count == 1:
        return f"odd: {oddity.message}"
    others = ", ".join(Path(name).name for name in oddity.names[1:4])
    more = f"; also {others}{' and more' if oddity.count > 4 else ''}" if others else ""
    return f"odd ({oddity.count:,} times): {oddity.message}{more}"
