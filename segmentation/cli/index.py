"""``mycelia index``: build, info, verify (``maintain.py`` and ``compact.py`` have the others)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from indexer.kinds import NOUNS, describes_images
from retrieval.store.layout import FEATURES
from segmentation.cli.arguments import (
    CollectionName,
    Config,
    DataPath,
    Format,
    ImageFolder,
    IndexPath,
    MaskFolder,
    MaxPixels,
    Overrides,
    SkipBad,
    Split,
    Subset,
    UnmaskedName,
    UnmaskedOption,
    Url,
    engine_overrides,
    read_dataset,
    read_recipe,
)
from segmentation.cli.console import count_of, folder_bytes, format_bytes, say, say_skipped, show, show_json
from segmentation.cli.files import check_new_folder
from segmentation.cli.inputs import ASKED, kind_of
from segmentation.cli.progress import ProgressDisplay
from segmentation.cli.shares import say_shares

if TYPE_CHECKING:
    from retrieval.folder import IndexFolder
    from retrieval.store.manifest import Manifest

#: So many classes with few patches are named.
NAMED = 8

app = typer.Typer(help="Build an index from labelled images, and look into one.", no_args_is_help=True)


@app.command()
def build(
    data: DataPath,
    overrides: Overrides = None,
    *,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the new index.")],
    config: Config = None,
    split: Split = None,
    format: Format = "auto",
    subset: Subset = None,
    images: ImageFolder = None,
    masks: MaskFolder = None,
    unmasked: UnmaskedOption = UnmaskedName.error,
    engine: Annotated[
        str | None,
        typer.Option(
            "--engine", help="Search engine: auto, exact, faiss or qdrant (short for index.engine=...)."
        ),
    ] = None,
    url: Url = None,
    collection: CollectionName = None,
    shard: Annotated[
        str | None,
        typer.Option("--shard", metavar="I/N", help="Do share I of N; all fill one collection on a server."),
    ] = None,
    skip_bad: SkipBad = False,
    max_pixels: MaxPixels = None,
) -> None:
    """Describe labelled images, patch by patch or whole, and store them in a new index.

    A build that was stopped goes on where it stopped when the same command runs again.

    \b
    Examples:
      mycelia index build VOCdevkit/VOC2012 --split train --out voc.index
      mycelia index build camvid --split train --out cam.index --config camvid.yaml
      mycelia index build flowers --split train --out flowers.index objective.kind=kl
      mycelia index build photos --out my.index features.kind=embeddings bank.max_patches=50000
      mycelia index build voc --out voc.index --url http://host:6333 --collection voc --shard 3/16

    \b
    Settings (KEY=VALUE) are those of a recipe, section by section:
      backbone.*  image.*  features.*  objective.*  bank.*  index.*  rerank.*  transfer.*  runtime.*  seed
      docs/settings.md lists all of them; `mycelia index info INDEX --json` prints those of an index.
    """
    from indexer.bank.shares import Share
    from retrieval.store.staging import check_free

    share = None if shard is None else Share.parse(shard)
    if share is not None:
        say(f"share {share.number} of {share.of}: into {share.out(out)}, which {out} will open too")
    check_new_folder(out)
    check_free(out if share is None else share.out(out))
    dataset = read_dataset(
        data, split=split, format=format, subset=subset, images=images, masks=masks, unmasked=unmasked
    )
    settings = [*(overrides or ()), *engine_overrides(engine, url, collection)]
    _, recipe = read_recipe(config, settings, dataset.kind)
    classes = count_of(len(dataset.classes), "class", "classes")
    say(f"{dataset.name}: {count_of(len(dataset), NOUNS[dataset.kind])}, {classes}")
    say_shares(dataset)

    from indexer.bank.build import build_index

    report = build_index(
        dataset, out, recipe=recipe, skip_bad=skip_bad, share=share, progress=ProgressDisplay()
    )
    say_skipped([(image.id, image.reason) for image in report.skipped], NOUNS[dataset.kind])
    size = format_bytes(folder_bytes(report.path))
    show(
        f"{report.path}: {count_of(report.rows, 'row')} of {count_of(report.images, NOUNS[dataset.kind])}, "
        f"{size} on disk, {report.seconds:.0f} s"
    )
    if report.whole:
        say(f"next: mycelia classify {report.path} {ASKED[dataset.kind]}")
    else:
        say(f"next: mycelia segment {report.path} PHOTO --out masks --overlay")


@app.command()
def info(
    index: IndexPath,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the manifest, without checksums, as JSON.")
    ] = False,
) -> None:
    """Say what an index holds and what built it.

    \b
    Examples:
      mycelia index info my.index
      mycelia index info my.index --json
    """
    from retrieval import IndexFolder

    folder = IndexFolder.open(index)
    if as_json:
        data = folder.manifest.to_json()
        data["files"] = {name: entry["bytes"] for name, entry in data["files"].items()}
        show_json(data)
        return
    for name, value in _facts(index, folder):
        show(f"{name:<11} {value}")
    if folder.spec.many_writers:
        for name, value in _live_facts(folder):
            show(f"{name:<11} {value}")


def _live_facts(folder: IndexFolder) -> list[tuple[str, str]]:
    """What the server counts beside what the builders uploaded, and what else it says."""
    with folder.index() as index:
        found, expected = len(index), folder.live_rows
        others = folder.spec.facts(index)
    counted = f"{found:,} {_noun(folder.manifest.recipe)}"
    if found == expected:
        counted += ", as expected"
    else:
        counted += f", expected {expected:,}: run the builds that fill the collection again"
    return [("server", counted), *others.items()]


def _facts(address: Path, folder: IndexFolder) -> list[tuple[str, str]]:
    """What a person wants to know of an index first, as (name, value)."""
    manifest = folder.manifest
    recipe: dict[str, Any] = manifest.recipe
    features, backbone, dataset = recipe.get("features", {}), recipe.get("backbone", {}), manifest.dataset
    names = manifest.classes.names
    merged = manifest.counts.get("patches")
    origin = "" if merged is None else f", merged from {merged:,}"
    facts = [
        ("index", f"{address} (format {manifest.format}, built {manifest.created})"),
        ("rows", f"{folder.live_rows:,} {_noun(recipe)}{origin}, {manifest.similarity.width} numbers each"),
        ("classes", f"{len(names)}: {', '.join(names)}"),
        ("data set", _join(dataset.get("root"), dataset.get("format"), dataset.get("split"))),
        ("engine", _describe_engine(manifest.engine, folder.spec.shown)),
        ("backbone", _join(backbone.get("model"), backbone.get("weights"), _describe_blocks(backbone))),
        ("image size", _describe_size(recipe)),
        ("features", _describe_features(features)),
        ("computed in", recipe.get("runtime", {}).get("precision", "")),
        ("metric", _describe_metric(folder)),
        ("re-ranking", _describe_reranking(manifest)),
        ("on disk", format_bytes(sum(entry.bytes for entry in manifest.files.values()))),
    ]
    return [(name, value) for name, value in facts if value]


def _describe_blocks(backbone: dict[str, Any]) -> str:
    """The block that is cut, or those that are joined."""
    joined = backbone.get("blocks")  # older indexes do not say
    return f"blocks {', '.join(map(str, joined))}" if joined else f"block {backbone.get('block')}"


def _noun(recipe: dict[str, Any]) -> str:
    """What the rows of an index are."""
    return f"{NOUNS[kind_of(recipe)]}s" if describes_images(recipe) else "patches"


def _describe_size(recipe: dict[str, Any]) -> str:
    size = recipe.get("image", {}).get("size", ()) if kind_of(recipe) == "image" else ()
    return " x ".join(str(side) for side in size)


def _describe_engine(engine: dict[str, Any], shown: Sequence[str]) -> str:
    """Kind and settings; of an engine with many, those that it names."""
    values = {**engine, **engine.get("settings", {})}
    values = {name: values.get(name) for name in shown or values}
    return _join(*(f"{name}={value}" for name, value in values.items() if value is not None))


def _describe_features(features: dict[str, Any]) -> str:
    if features.get("kind") != "fungi":
        return str(features.get("kind", ""))
    return (
        f"fungi, projection {features.get('projection')}, gradient weight {features.get('gradient_weight')}"
    )


def _describe_metric(folder: IndexFolder) -> str:
    """Kind and size of the metric, and the classes that it knows of a few patches alone."""
    manifest = folder.manifest
    features = manifest.recipe.get("features", {})
    if features.get("metric", "none") == "none":
        return ""
    from indexer.features.metric import read_facts

    facts = read_facts(manifest.place(folder.path, FEATURES))
    rows = "images" if features.get("level") == "image" else "patches"
    text = _join(
        features["metric"],
        f"shrinkage {facts.shrinkage:.3g}"
        + (" (ledoit-wolf)" if features["shrinkage"] == "ledoit-wolf" else ""),
        f"{facts.kept} of {facts.of} numbers",
        f"fitted on {round(float(facts.patches.sum())):,} {rows}",
    )
    text += _describe_drift(folder, rows)
    few = facts.few if features["metric"] == "class" else []
    if not few:
        return text
    names = (manifest.fitted_classes or manifest.classes).names
    named = [f"{names[c]} ({facts.patches[c]:.0f})" for c in few[:NAMED]]
    more = f" and {len(few) - NAMED} more" if len(few) > NAMED else ""
    return f"{text}; fewer {rows} than numbers, so that shrinkage carries them: {', '.join(named)}{more}"


def _describe_drift(folder: IndexFolder, noun: str) -> str:
    """How far the memory is from the one that its metric was fitted on; nothing where it is the same."""
    from retrieval.store.records import drift_of

    images = folder.manifest.counts.get("images")
    if images is None:  # made by hand: nobody knows which were first
        return ""
    epochs = folder.recipe.get("bank", {}).get("epochs", 1)
    drift = drift_of(folder.records, images * epochs, gone=folder.manifest.counts.get("gone", 0))
    parts = []
    if drift.added:
        share = 100 * drift.added / drift.rows
        parts.append(f"{drift.added:,} of {drift.rows:,} {noun} ({share:.1f}%) were added after that")
    if drift.removed:
        parts.append(
            f"{count_of(drift.removed, 'image')} that it saw {'is' if drift.removed == 1 else 'are'} gone"
        )
    return f"; {' and '.join(parts)} (building again fits it anew)" if parts else ""


def _describe_reranking(manifest: Manifest) -> str:
    reranked = manifest.similarity.reranked
    if reranked is None:
        return ""
    return f"{reranked.candidates} candidates by exact FUNGI, gradient weight {reranked.exact.weight}"


def _join(*parts: object) -> str:
    return ", ".join(str(part) for part in parts if part is not None)


@app.command()
def verify(index: IndexPath) -> None:
    """Compare every file of an index with its checksum.

    Files in the folder that are no part of the index are named; nobody reads them.

    \b
    Example:
      mycelia index verify my.index
    """
    from retrieval import IndexFolder

    folder = IndexFolder.open(index)
    unlisted = folder.verify()
    files = folder.manifest.files
    total = sum(entry.bytes for entry in files.values())
    show(f"{folder.path}: all {len(files)} files are as they were written ({format_bytes(total)})")
    if unlisted:
        count = count_of(len(unlisted), "file")
        say(f"{count} in the folder that the index does not list, and that nobody reads:")
        for name in unlisted:
            say(f"  {name}")
