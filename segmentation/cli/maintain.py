"""``mycelia index convert`` and ``mycelia index remove``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from segmentation.cli.arguments import (
    CollectionName,
    EngineOverrides,
    IndexPath,
    Url,
    engine_overrides,
)
from segmentation.cli.console import count_of, show
from segmentation.cli.files import check_new_folder
from segmentation.cli.overrides import built_recipe, check_overrides
from segmentation.cli.progress import ProgressDisplay


def convert(
    index: IndexPath,
    overrides: EngineOverrides = None,
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
    from retrieval.store.staging import check_free

    check_new_folder(out)
    check_free(out)
    check_overrides(overrides or (), sections=["index"])

    from indexer.recipe import override_recipe
    from retrieval import IndexFolder
    from retrieval.edit.convert import convert_index

    folder = IndexFolder.open(index)
    settings = [*engine_overrides(to, url, collection), *(overrides or ())]
    chosen = override_recipe(built_recipe(folder), ["index={}", *settings]).index
    copied = convert_index(folder, out, settings=chosen, progress=ProgressDisplay())
    show(f"{out}: {count_of(copied, 'row')} on {to}")


def remove(
    index: IndexPath,
    ids: Annotated[list[str], typer.Argument(metavar="ID...", help="Memory images, by their id.")],
) -> None:
    """Take memory images out of an index; the rest stays as it is.

    Where another process is changing the index, this one waits for it, a minute at most.

    \b
    Example:
      mycelia index remove my.index 0001TP_006690 0001TP_006720
    """
    from retrieval.edit.remove import remove_images

    report = remove_images(index, ids, progress=ProgressDisplay())
    removed = f"{count_of(report.rows, 'row')} of {count_of(report.images, 'image')}"
    show(f"{index}: removed {removed}, {report.left:,} left")
