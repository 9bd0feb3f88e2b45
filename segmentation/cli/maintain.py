"""``mycelia index convert`` and ``mycelia index remove``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from retrieval.engines.qdrant.locate import local_folder
from segmentation.cli.arguments import (
    CollectionName,
    IndexPath,
    Url,
    check_overrides,
    engine_overrides,
    image_numbers,
    refuse_existing_index,
)
from segmentation.cli.console import count_of, show


def convert(
    index: IndexPath,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="Settings of the new engine, for example index.nprobe=64."),
    ] = None,
    *,
    to: Annotated[str, typer.Option("--to", help="The new index's engine: exact, faiss or qdrant.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the new index.")],
    url: Url = None,
    collection: CollectionName = None,
) -> None:
    """Copy an index into a new one of another engine.

    Vectors are copied as the old engine holds them; removed images stay behind.

    \b
    Examples:
      mycelia index convert my.index --to qdrant --out my-edge.index
      mycelia index convert my.index --to qdrant --url http://host:6333 --collection my --out my-server.index
      mycelia index convert qdrant://host:6333/my --to faiss --out my-faiss.index
    """
    refuse_existing_index(out)
    check_overrides(overrides or (), sections=["index"])

    from indexer.progress import track
    from indexer.recipe import override_recipe, recipe_from_dict
    from retrieval.edit.convert import convert_index
    from retrieval.store.manifest import read_manifest

    folder = local_folder(index)
    manifest = read_manifest(folder)
    recipe = recipe_from_dict(manifest.recipe, where=str(index))
    settings = [*engine_overrides(to, url, collection), *(overrides or ())]
    chosen = override_recipe(recipe, ["index={}", *settings]).index
    rows = manifest.counts.get("rows", 0) - manifest.counts.get("removed", 0)
    with track("converting", max(1, rows)) as task:
        copied = convert_index(folder, out, settings=chosen, advance=task.advance)
    show(f"{out}: {count_of(copied, 'row')} on {to}")


def remove(
    index: IndexPath,
    ids: Annotated[list[str], typer.Argument(metavar="ID...", help="Memory images, by their id.")],
) -> None:
    """Take memory images out of an index; the rest stays as it is.

    \b
    Example:
      mycelia index remove my.index 0001TP_006690 0001TP_006720
    """
    numbers = set(image_numbers(index, ids))

    from retrieval import open_index, read_images

    folder = local_folder(index)
    with open_index(folder) as opened:
        count = sum(opened.remove(number) for number in sorted(numbers))
        records = [
            replace(record, removed=record.removed or record.number in numbers)
            for record in read_images(folder)
        ]
        opened.flush(images=records)
        left = len(opened)
    show(f"{index}: removed {count_of(count, 'row')} of {count_of(len(set(ids)), 'image')}, {left:,} left")
