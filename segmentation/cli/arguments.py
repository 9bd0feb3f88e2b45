"""Arguments and options that several commands share, and the checks of what they were given."""

from __future__ import annotations

import json
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from segmentation.cli.archives import unpack
from segmentation.cli.console import format_bytes, say

if TYPE_CHECKING:
    from indexer.datasets import Dataset
    from indexer.kinds import Kind
    from indexer.recipe import Recipe

IndexPath = Annotated[
    Path, typer.Argument(metavar="INDEX", help="Folder of the index, or qdrant://HOST:PORT/COLLECTION.")
]
DataPath = Annotated[
    Path,
    typer.Argument(
        metavar="DATA", callback=unpack, help="Folder of the data set, or a .zip or .tar[.gz] of it."
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help="Settings of the recipe to change, for example transfer.k=50."),
]
EngineOverrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help="Settings of the new engine, for example index.nprobe=64."),
]
FreeOverrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help="Settings to change, for example runtime.device=cpu."),
]
Config = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="Recipe: a YAML file, or the name of one that comes with Mycelia."),
]
Split = Annotated[
    str | None, typer.Option("--split", help="Split of the data set, for example train or val.")
]
Format = Annotated[
    str,
    typer.Option(
        "--format",
        help="Layout of the data set: auto, voc, folder, camvid, cityscapes, ade20k, coco-panoptic, coco, "
        "coco-stuff, cvat, label-studio-png, label-studio, labelme, yolo, table or classes.",
    ),
]
Subset = Annotated[
    str | None,
    typer.Option(
        "--subset",
        metavar="SHARE|NUMBER|FILE",
        help="Part of the images: a share (0.2) or a number (10), drawn by seed 0, or by 7 with 0.2@7, a "
        "smaller one always part of a larger one; or a file with the ids to use, one a line.",
    ),
]
ImageFolder = Annotated[
    str | None,
    typer.Option("--images", metavar="FOLDER", help="Folder of the images, in DATA or from here."),
]
MaskFolder = Annotated[
    str | None, typer.Option("--masks", metavar="FOLDER", help="Folder of the masks, in DATA or from here.")
]


class UnmaskedName(str, Enum):
    """What images without a mask are; see ``indexer.datasets.unmasked``."""

    error = "error"
    background = "background"
    skip = "skip"


UnmaskedOption = Annotated[
    UnmaskedName,
    typer.Option("--unmasked", help="What images without a mask are: background alone, skipped, an error."),
]
TextOption = Annotated[
    list[str] | None,
    typer.Option("--text", metavar="TEXT", help="A text to ask an index of texts about; may be repeated."),
]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Go on past bad images and list them at the end.")]


def _allow_pixels(context: typer.Context, most: int | None) -> int | None:
    """Raise Pillow's limit while the command runs, and say what photos of that size take."""
    if most is not None and not context.resilient_parsing:
        from PIL import Image

        from indexer.images.decode import BYTES_PER_PIXEL

        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, most
        # the root's: this command's own is not closed where another of its options is refused
        context.find_root().call_on_close(lambda: setattr(Image, "MAX_IMAGE_PIXELS", before))
        say(
            f"photos of up to {most:,} pixels are allowed; one of that size takes about "
            f"{format_bytes(most * BYTES_PER_PIXEL)} of memory"
        )
    return most


#: Pillow holds the texts of our own pictures against the same limit.
LEAST_MAX_PIXELS = 100_000

MaxPixels = Annotated[
    int | None,
    typer.Option(
        "--max-pixels",
        min=LEAST_MAX_PIXELS,
        metavar="N",
        callback=_allow_pixels,
        help="Most pixels of a photo, a guard against decompression bombs; 89478485 without. Each takes "
        "some 24 bytes of memory.",
    ),
]

Url = Annotated[
    str | None,
    typer.Option("--url", help="Qdrant server, http://HOST:6333; its key is taken from QDRANT_API_KEY."),
]
CollectionName = Annotated[str | None, typer.Option("--collection", help="Collection on the Qdrant server.")]


def engine_overrides(engine: str | None, url: str | None, collection: str | None) -> list[str]:
    """The ``key=value`` that stand for ``--engine``, ``--url`` and ``--collection``."""
    if engine is None and url is not None:
        engine = "qdrant"
    options = {"engine": engine, "qdrant.url": url, "qdrant.collection": collection}
    return [f"index.{name}={json.dumps(value)}" for name, value in options.items() if value is not None]


def read_dataset(
    data: Path,
    *,
    split: str | None,
    format: str,
    subset: str | None,
    images: str | None = None,
    masks: str | None = None,
    unmasked: UnmaskedName = UnmaskedName.error,
) -> Dataset:
    """The data set that a command's options name."""
    from indexer.datasets import load_dataset

    return load_dataset(
        data,
        split=split,
        format=format,
        subset=subset,
        images=images,
        masks=masks,
        unmasked=unmasked.value,
    )


def read_recipe(config: Path | None, overrides: Sequence[str], kind: Kind = "image") -> tuple[Path, Recipe]:
    """The recipe that ``--config`` and ``key=value`` ask for, and its file.

    Without one, the default here for what the data set holds.
    """
    from indexer.recipe import load_recipe

    if config is None:
        from indexer import default_recipe_path

        config = default_recipe_path(kind)
        say(f"recipe: {config} (choose another with --config)")
    return config, load_recipe(config, overrides)
