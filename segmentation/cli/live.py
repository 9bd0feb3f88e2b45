"""``mycelia index`` add, replace, relabel and merge: an index that changes while it is used."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from indexer.kinds import NOUNS
from retrieval.errors import ConfigError
from retrieval.json_text import parse_json, read_limited
from segmentation.cli.arguments import (
    CollectionName,
    DataPath,
    Format,
    FreeOverrides,
    ImageFolder,
    IndexPath,
    MaskFolder,
    MaxPixels,
    SkipBad,
    Split,
    Subset,
    UnmaskedName,
    UnmaskedOption,
    Url,
    engine_overrides,
    read_dataset,
)
from segmentation.cli.console import count_of, say, say_skipped, show
from segmentation.cli.files import check_new_folder
from segmentation.cli.overrides import built_recipe, check_overrides
from segmentation.cli.progress import ProgressDisplay

if TYPE_CHECKING:
    from indexer.datasets import Dataset

NewIds = Annotated[
    bool,
    typer.Option("--new-ids", help="Give a new class a free id where the index uses its own for another."),
]


def add(
    index: IndexPath,
    data: DataPath,
    overrides: FreeOverrides = None,
    *,
    split: Split = None,
    format: Format = "auto",
    subset: Subset = None,
    images: ImageFolder = None,
    masks: MaskFolder = None,
    unmasked: UnmaskedOption = UnmaskedName.error,
    new_ids: NewIds = False,
    skip_bad: SkipBad = False,
    max_pixels: MaxPixels = None,
) -> None:
    """Add labelled images to an index, described as its own were.

    Images that are there already stay as they are, so a run that was stopped goes on with the same command.
    Classes are joined by name, and new ones appended. Nothing that was fitted is fitted again.

    \b
    Examples:
      mycelia index add my.index more-photos
      mycelia index add voc.index VOCdevkit/VOC2012 --split val runtime.device=cpu
    """
    dataset = read_dataset(
        data, split=split, format=format, subset=subset, images=images, masks=masks, unmasked=unmasked
    )
    _run(index, dataset, overrides or (), replace=False, new_ids=new_ids, skip_bad=skip_bad)


def replace(
    index: IndexPath,
    data: DataPath,
    overrides: FreeOverrides = None,
    *,
    split: Split = None,
    format: Format = "auto",
    subset: Subset = None,
    images: ImageFolder = None,
    masks: MaskFolder = None,
    unmasked: UnmaskedOption = UnmaskedName.error,
    new_ids: NewIds = False,
    skip_bad: SkipBad = False,
    max_pixels: MaxPixels = None,
) -> None:
    """Describe images of an index again, with the labels that a data set has for them now.

    Old rows go and new ones come in one step, so that no search misses an image or finds it twice. Images
    that the index does not have are added.

    \b
    Example:
      mycelia index replace my.index corrected-photos
    """
    dataset = read_dataset(
        data, split=split, format=format, subset=subset, images=images, masks=masks, unmasked=unmasked
    )
    _run(index, dataset, overrides or (), replace=True, new_ids=new_ids, skip_bad=skip_bad)


def _run(
    index: Path,
    dataset: Dataset,
    overrides: Sequence[str],
    *,
    replace: bool,
    new_ids: bool,
    skip_bad: bool,
) -> None:
    check_overrides(overrides, sections=["runtime"])

    from indexer.bank.add import add_data
    from indexer.recipe import override_recipe
    from retrieval import IndexFolder

    runtime = override_recipe(built_recipe(IndexFolder.open(index)), list(overrides)).runtime
    report = add_data(
        index,
        dataset,
        replace=replace,
        skip_bad=skip_bad,
        new_ids=new_ids,
        runtime=runtime,
        progress=ProgressDisplay(),
    )
    noun = NOUNS[dataset.kind]
    say_skipped([(image.id, image.reason) for image in report.skipped], noun)
    if report.classes:
        say(f"new {'class' if len(report.classes) == 1 else 'classes'}: {', '.join(report.classes)}")
    if report.there:
        are = "was there already and is as it was" if report.there == 1 else "were there already, left as is"
        say(f"{count_of(report.there, noun)} {are}; `mycelia index replace` takes new labels")
    parts = [f"added {count_of(report.added, noun)}"] if report.added or not replace else []
    parts += [f"replaced {count_of(report.replaced, noun)}"] if replace else []
    show(f"{index}: {', '.join(parts)}, {count_of(report.rows, 'row')}, {report.seconds:.1f} s")


def relabel(
    index: IndexPath,
    names: Annotated[
        list[str],
        typer.Option("--map", metavar="OLD=NEW,...", help="New names, or a JSON file of them; repeatable."),
    ],
) -> None:
    """Rename classes of an index, or make one of several.

    Labels alone are rewritten. All new names count at once, so that a=b,b=a swaps two.

    \b
    Examples:
      mycelia index relabel my.index --map car=vehicle,truck=vehicle
      mycelia index relabel my.index --map names.json
    """
    from retrieval.edit.relabel import relabel_index

    report = relabel_index(index, _parse_names(names))
    known = report.classes.names
    show(f"{index}: {count_of(len(known), 'class', 'classes')}: {', '.join(known)}")


def _parse_names(texts: Sequence[str]) -> dict[str, str]:
    """Old and new names; raises ConfigError for what is neither."""
    names: dict[str, str] = {}
    for text in texts:
        pairs = (
            _read_names(Path(text)) if text.endswith(".json") else [_parse_pair(p) for p in text.split(",")]
        )
        for old, new in pairs:
            if names.get(old, new) != new:
                raise ConfigError(f"--map gives the class {old!r} two names, {names[old]!r} and {new!r}")
            names[old] = new
    return names


def _parse_pair(text: str) -> tuple[str, str]:
    old, equals, new = text.partition("=")
    if not equals or not old.strip() or not new.strip():
        raise ConfigError(
            f"--map {text!r} should be OLD=NEW; names with a comma or an equals sign go into a JSON file"
        )
    return old.strip(), new.strip()


def _read_names(path: Path) -> list[tuple[str, str]]:
    try:
        data = parse_json(read_limited(path))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{path} cannot be read as JSON ({error}); it should map old names to new"
        ) from error
    if not isinstance(data, dict) or not all(isinstance(new, str) for new in data.values()):
        raise ConfigError(f'{path} should map old names to new ones, for example {{"car": "vehicle"}}')
    return [(old, new.strip()) for old, new in data.items()]


def merge(
    first: Annotated[Path, typer.Argument(metavar="A", help="Folder or address of an index.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="Another of the same features.")],
    *,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the new index.")],
    skip: Annotated[bool, typer.Option("--skip", help="Leave out images of B that A has too.")] = False,
    new_ids: NewIds = False,
    to: Annotated[
        str | None, typer.Option("--to", help="The new index's engine: exact, faiss or qdrant; as A's.")
    ] = None,
    url: Url = None,
    collection: CollectionName = None,
) -> None:
    """Make one index of two whose images were described alike.

    Vectors are copied as they are stored; the two stay as they are.

    \b
    Example:
      mycelia index merge day.index night.index --out all.index
    """
    from retrieval.store.staging import check_free

    check_new_folder(out)
    check_free(out)

    from indexer.recipe import override_recipe
    from retrieval import IndexFolder
    from retrieval.edit.merge import merge_indexes

    one = IndexFolder.open(first)
    settings = None
    if to is not None or url is not None or collection is not None:
        asked = ["index={}", *engine_overrides(to, url, collection)]
        settings = override_recipe(built_recipe(one), asked).index
    report = merge_indexes(
        one, second, out, skip=skip, new_ids=new_ids, settings=settings, progress=ProgressDisplay()
    )
    if report.added:
        say(f"classes of {second} alone: {', '.join(report.added)}")
    if report.skipped:
        say(f"left out {count_of(len(report.skipped), 'image')} of {second} that {first} has too")
    show(f"{out}: {count_of(report.rows, 'row')} of {count_of(report.images, 'image')}")
