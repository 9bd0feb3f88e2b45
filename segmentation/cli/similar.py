"""``mycelia similar``: which memory images are most like a photo, and what may be wrong in the memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from indexer.kinds import NOUNS
from retrieval.errors import ConfigError
from segmentation.cli.arguments import IndexPath, MaxPixels, TextOption
from segmentation.cli.classify import classifying_recipe, open_classifier
from segmentation.cli.console import count_of, format_percent, say, show_json, show_table
from segmentation.cli.files import check_file
from segmentation.cli.inputs import Input, asked_inputs, kind_of
from segmentation.cli.overrides import split_overrides
from segmentation.cli.progress import ProgressDisplay

if TYPE_CHECKING:
    from retrieval.folder import IndexFolder
    from segmentation.classification.matches import Match
    from segmentation.classification.memory import DuplicatePair, SuspiciousLabel


def similar(
    index: IndexPath,
    image: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="FILE|KEY=VALUE",
            help="The photo (text, recording) to ask about; and settings to change, for example "
            "runtime.device=cpu.",
        ),
    ] = None,
    *,
    text: TextOption = None,
    count: Annotated[int, typer.Option("--count", min=1, help="Memory images to list.")] = 12,
    picture: Annotated[
        Path | None,
        typer.Option(
            "--picture",
            help="Write a sheet (PNG) of the photo and of these images; replaces only what Mycelia wrote.",
        ),
    ] = None,
    duplicates: Annotated[
        bool, typer.Option("--duplicates", help="List pairs of memory images that are nearly the same.")
    ] = False,
    above: Annotated[
        float | None,
        typer.Option("--above", metavar="X", help="With --duplicates: pairs more similar than this; 0.98."),
    ] = None,
    suspicious: Annotated[
        bool, typer.Option("--suspicious", help="List memory images whose label the others deny.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the list as JSON.")] = False,
    max_pixels: MaxPixels = None,
) -> None:
    """List the memory images (texts, recordings) that are most like one, or what may be wrong in the memory.

    The most similar comes first, with its classes. --duplicates and --suspicious take no photo: they
    compare the images of the memory with each other.

    \b
    Examples:
      mycelia similar pets.index photo.jpg
      mycelia similar pets.index photo.jpg --count 24 --picture sheet.png
      mycelia similar intents.index --text "my card has not arrived"
      mycelia similar pets.index --duplicates --above 0.95
      mycelia similar pets.index --suspicious transfer.k=20

    \b
    Settings (KEY=VALUE) that may differ from those of the build:
      transfer.k  transfer.temperature  runtime.device  runtime.precision
    """
    paths, overrides = split_overrides(image or [])
    given = [*paths, *(text or ())]
    _check_question(given, duplicates=duplicates, suspicious=suspicious, picture=picture, above=above)
    if picture is not None and paths:
        _check_picture(picture, paths[0])

    from retrieval import IndexFolder

    folder = IndexFolder.open(index)
    if not duplicates and not suspicious:
        asked = _one_asked(folder, paths, text or (), picture=picture)
        matches = _ask(folder, asked, overrides, count, picture)
        if as_json:
            show_json([asdict(match) for match in matches])
        else:
            show_matches(matches)
        return
    pairs, doubts = _look_through(
        folder, overrides, duplicates=duplicates, suspicious=suspicious, above=above
    )
    if as_json:
        found = {
            **({} if pairs is None else {"duplicates": [_pair_json(pair) for pair in pairs]}),
            **({} if doubts is None else {"suspicious": [asdict(doubt) for doubt in doubts]}),
        }
        show_json(found)
        return
    if pairs is not None:
        show_pairs(pairs)
    if doubts is not None:
        show_doubts(doubts)


def _check_question(
    given: Sequence[Path | str],
    *,
    duplicates: bool,
    suspicious: bool,
    picture: Path | None,
    above: float | None,
) -> None:
    """A usage error for arguments that do not go together."""
    asks = " and ".join(
        name for name, given in (("--duplicates", duplicates), ("--suspicious", suspicious)) if given
    )
    if asks and given:
        raise typer.BadParameter(f"{asks} takes no photo, got {given[0]}", param_hint="FILE")
    if not asks and len(given) != 1:
        got = "none" if not given else str(len(given))
        raise typer.BadParameter(
            f"expected one photo (text, recording), got {got}; or ask for --duplicates or --suspicious",
            param_hint="FILE",
        )
    if asks and picture is not None:
        raise typer.BadParameter(f"a sheet is drawn of one photo, not of {asks}", param_hint="--picture")
    if above is not None and not duplicates:
        raise typer.BadParameter("it belongs to --duplicates", param_hint="--above")
    if above is not None and not -1 <= above < 1:
        raise typer.BadParameter(f"a similarity below 1 is expected, for example 0.95, not {above}")


def _check_picture(picture: Path, photo: Path) -> None:
    if picture.exists() and photo.exists() and picture.samefile(photo):
        raise ConfigError(f"{picture} is the photo itself; choose another name for --picture")
    check_file(picture, "--picture")
    if picture.exists():
        say(f"{picture} is there already and will be replaced")


def _one_asked(
    folder: IndexFolder, paths: Sequence[Path], texts: Sequence[str], *, picture: Path | None
) -> Input:
    """What is asked about; ConfigError for what the index cannot be asked."""
    from segmentation.classification.matches import check_level

    check_level(folder)
    kind = kind_of(folder.recipe)
    if kind == "text" and picture is not None:
        raise ConfigError("--picture draws photos and recordings; texts are listed, or printed with --json")
    asked = asked_inputs(kind, paths, texts)
    if len(asked) != 1:
        raise ConfigError(f"expected one {NOUNS[kind]}, but {paths[0]} holds {len(asked)}; name one of them")
    return asked[0]


def _ask(
    folder: IndexFolder, asked: Input, overrides: Sequence[str], count: int, picture: Path | None
) -> list[Match]:
    """The memory images most like one, said and drawn."""
    with open_classifier(folder, overrides) as classifier:
        content = classifier.extractor.read(asked.source)
        vector = classifier.describe(content)
        best = classifier.label(vector[None])[0].best
        matches = classifier.similar(vector, count)
        photo = None if picture is None else classifier.extractor.picture(content)
    title = f"{best.name}, {format_percent(best.share)} % of the vote"
    say(f"{asked.name}: {title}")
    if picture is not None and photo is not None:
        from segmentation.classification.sheet import similarity_sheet
        from segmentation.drawing.pictures import write_image

        write_image(picture, similarity_sheet(photo, f"{Path(asked.name).name}: {title}", matches))
        say(f"picture: {picture}")
    return matches


def _look_through(
    folder: IndexFolder,
    overrides: Sequence[str],
    *,
    duplicates: bool,
    suspicious: bool,
    above: float | None,
) -> tuple[list[DuplicatePair] | None, list[SuspiciousLabel] | None]:
    """What may be wrong in the memory; None for what was not asked. No model is loaded."""
    from indexer.features.backbone import choose_device
    from segmentation.classification import memory
    from segmentation.classification.matches import MatchBook

    recipe, display = classifying_recipe(folder, overrides), ProgressDisplay()
    index = folder.index(device=str(choose_device(recipe.runtime.device)))
    try:
        book = MatchBook(index, folder.records, thumbnail=folder.thumbnail)
        bound = memory.DUPLICATE if above is None else above
        pairs = memory.near_duplicates(index, book, bound=bound, progress=display) if duplicates else None
        doubts = None
        if suspicious:
            transfer = recipe.transfer
            doubts = memory.suspicious_labels(
                index,
                book,
                folder.records,
                k=transfer.k,
                temperature=transfer.temperature,
                progress=display,
            )
    finally:
        index.close()
    return pairs, doubts


def _pair_json(pair: DuplicatePair) -> dict[str, object]:
    return {**asdict(pair), "labels_differ": pair.labels_differ}


def show_matches(matches: Sequence[Match]) -> None:
    """Memory images as a table on stdout."""
    # a text is its own name: the file is that of all texts
    seen = "text" if any(match.excerpt is not None for match in matches) else "file"
    show_table(
        None,
        ["image", "class", "similarity", seen],
        [
            [match.image_id, ", ".join(match.classes), f"{match.similarity:.3f}", _shown(match)]
            for match in matches
        ],
        text=("image", "class", seen),
    )


def _shown(match: Match) -> str:
    return match.image_path if match.excerpt is None else match.excerpt


def show_pairs(pairs: Sequence[DuplicatePair]) -> None:
    """Pairs of memory images as a table on stdout, and their number on stderr."""
    say(f"{count_of(len(pairs), 'pair')} of memory images nearly the same")
    if pairs:
        rows = [
            [
                pair.first.image_id,
                pair.second.image_id,
                f"{pair.similarity:.3f}",
                ", ".join(pair.first.classes),
                ", ".join(pair.second.classes) + (" (differs)" if pair.labels_differ else ""),
            ]
            for pair in pairs
        ]
        columns = ["image", "other", "similarity", "class", "class of the other"]
        show_table(None, columns, rows, text=("image", "other", "class", "class of the other"))


def show_doubts(doubts: Sequence[SuspiciousLabel]) -> None:
    """Suspicious labels as a table on stdout, and their number on stderr."""
    say(f"{count_of(len(doubts), 'memory image')} with a label that the others deny")
    if doubts:
        rows = [
            [
                doubt.image.image_id,
                ", ".join(doubt.image.classes),
                format_percent(doubt.own_share),
                doubt.suggested,
                format_percent(doubt.share),
                doubt.image.image_path,
            ]
            for doubt in doubts
        ]
        columns = ["image", "label", "vote for it", "others say", "their vote", "file"]
        show_table("votes in percent", columns, rows, text=("image", "label", "others say", "file"))
