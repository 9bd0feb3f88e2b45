"""``mycelia index compact``: a smaller index of the same memory."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from segmentation.cli.arguments import EngineOverrides, IndexPath, engine_overrides
from segmentation.cli.console import count_of, show
from segmentation.cli.files import check_new_folder
from segmentation.cli.overrides import built_recipe, check_overrides
from segmentation.cli.progress import ProgressDisplay


def compact(
    index: IndexPath,
    overrides: EngineOverrides = None,
    *,
    keep: Annotated[float, typer.Option("--keep", help="Share of the rows to keep, for example 0.1.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the new index.")],
    to: Annotated[
        str | None, typer.Option("--to", help="The new index's engine: exact, faiss or qdrant; as it was.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Same seed, same index.")] = 0,
) -> None:
    """Merge the patches of an index into fewer that stand for them.

    Patches that look alike and have like labels become one, which counts in a vote as often as they would;
    mixed patches of class borders and rare classes keep their say. The old index is not changed.

    \b
    Examples:
      mycelia index compact my.index --keep 0.1 --out small.index
      mycelia index compact my.index --keep 0.05 --out small.index --to faiss
    """
    from retrieval.store.staging import check_free

    check_new_folder(out)
    check_free(out)
    check_overrides(overrides or (), sections=["index"])

    from indexer.recipe import override_recipe
    from retrieval import IndexFolder
    from retrieval.edit.compact import CompactOptions, compact_index

    folder = IndexFolder.open(index)
    anew = [] if to is None else ["index={}", *engine_overrides(to, None, None)]
    chosen = override_recipe(built_recipe(folder), [*anew, *(overrides or ())]).index
    report = compact_index(
        folder,
        out,
        options=CompactOptions(keep, seed=seed),
        settings=chosen,
        progress=ProgressDisplay(),
    )
    show(f"{out}: {count_of(report.prototypes, 'row')} that stand for {count_of(report.rows, 'row')}")
