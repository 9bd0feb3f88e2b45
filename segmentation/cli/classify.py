"""``mycelia classify``: photos, texts or recordings in, their classes out."""

from __future__ import annotations

import csv
import io
from collections.abc import Generator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from indexer.kinds import NOUNS
from retrieval.errors import ConfigError, DataError
from retrieval.store.copying import copy_file
from retrieval.store.files import atomic_write, storage_errors
from retrieval.store.paths import real_path
from segmentation.cli.arguments import IndexPath, MaxPixels, SkipBad, TextOption
from segmentation.cli.console import count_of, format_percent, say, say_skipped, show
from segmentation.cli.files import check_file, check_place, write_json
from segmentation.cli.inputs import Input, asked_inputs, kind_of
from segmentation.cli.overrides import changed_recipe, check_overrides, split_overrides
from segmentation.cli.progress import ProgressDisplay

if TYPE_CHECKING:
    from indexer.recipe import Recipe
    from retrieval.folder import IndexFolder
    from segmentation.classification.classifier import Classification, Classifier

#: Sections of the recipe that may differ from what built an index of images.
SECTIONS = ("transfer", "runtime")


def classify(
    index: IndexPath,
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="FILE|FOLDER|KEY=VALUE",
            help="Photos (texts, tables of texts, recordings) or folders of them; and settings to change, "
            "for example transfer.k=10.",
        ),
    ] = None,
    *,
    top: Annotated[int, typer.Option("--top", min=1, help="Classes that are named for each input.")] = 3,
    text: TextOption = None,
    json_file: Annotated[
        Path | None,
        typer.Option("--json", help="Write all results as JSON; replaces only what Mycelia wrote."),
    ] = None,
    csv_file: Annotated[
        Path | None, typer.Option("--csv", help="Write a table: input, and its classes with their shares.")
    ] = None,
    sort_into: Annotated[
        Path | None,
        typer.Option(
            "--sort-into", metavar="DIR", help="Copy each file to DIR/CLASS; DIR has to be new or empty."
        ),
    ] = None,
    link: Annotated[
        bool, typer.Option("--link", help="With --sort-into: make symbolic links and no copies.")
    ] = False,
    skip_bad: SkipBad = False,
    max_pixels: MaxPixels = None,
) -> None:
    """Name the classes of photos (texts, recordings), by an index of whole images (texts, recordings).

    Each gets a line: its classes with their shares of the vote in percent, the largest first.

    \b
    Examples:
      mycelia classify pets.index photo.jpg
      mycelia classify pets.index photos/ --top 1 --csv classes.csv --skip-bad
      mycelia classify pets.index photos/ --sort-into sorted
      mycelia classify pets.index photos/ transfer.k=10 transfer.temperature=0.05
      mycelia classify intents.index --text "my card has not arrived" --top 5
      mycelia classify intents.index new.csv --csv classes.csv
      mycelia classify birds.index recordings/ --json classes.json

    \b
    Settings (KEY=VALUE) that may differ from those of the build:
      transfer.k  transfer.temperature  runtime.device  runtime.precision  runtime.batch_size
    """
    paths, overrides = split_overrides(inputs or [])
    if not paths and not text:
        raise typer.BadParameter("expected a file, a folder or --text", param_hint="FILE|FOLDER")
    if link and sort_into is None:
        raise typer.BadParameter("say where the links should go, with --sort-into DIR", param_hint="--link")

    from retrieval import IndexFolder

    folder = IndexFolder.open(index)
    kind = kind_of(folder.recipe)
    asked = asked_inputs(kind, paths, text or (), skip_bad=skip_bad)
    check_files([item.source for item in asked if isinstance(item.source, Path)], json_file, csv_file)
    if sort_into is not None:
        check_sorting(asked, sort_into)
    skipped: list[tuple[str, str]] = []
    entries: list[dict[str, Any]] = []
    with open_classifier(folder, overrides) as classifier:
        places = {} if sort_into is None else class_folders(classifier.classes.names)
        for item, result in _results(classifier, asked, skipped if skip_bad else None):
            shares = result.top(top)
            entry = {
                kind: item.name,
                "class": result.best.name,
                "share": round(result.best.share, 6),
                "classes": {item.name: round(item.share, 6) for item in shares},
                "sorted": None,
            }
            show(f"{item.name}: {', '.join(f'{item.name} {format_percent(item.share)}' for item in shares)}")
            if sort_into is not None and item.place is not None and isinstance(item.source, Path):
                target = sort_into / places[result.best.name] / item.place
                put(item.source, target, link=link)
                entry["sorted"] = str(target)
            entries.append(entry)
    say_skipped(skipped, NOUNS[kind])
    if json_file is not None:
        write_json(
            json_file, {"index": str(index), "top": top, f"{NOUNS[kind]}s": entries, "skipped": dict(skipped)}
        )
        say(f"results: {json_file}")
    if csv_file is not None:
        write_csv(csv_file, entries, top, kind=kind)
        say(f"table: {csv_file}")
    done = f"classified {count_of(len(entries), NOUNS[kind])}"
    say(done if sort_into is None else f"{done}, {'linked' if link else 'copied'} into {sort_into}")


def open_classifier(folder: IndexFolder, overrides: Sequence[str]) -> Classifier:
    """A classifier on an index with ``key=value`` changes of :data:`SECTIONS`; ConfigError for any other."""
    from segmentation.classification.classifier import Classifier

    recipe = classifying_recipe(folder, overrides)
    transfer = recipe.transfer
    return Classifier.open(folder, runtime=recipe.runtime, k=transfer.k, temperature=transfer.temperature)


def classifying_recipe(folder: IndexFolder, overrides: Sequence[str]) -> Recipe:
    """An index's recipe with ``key=value`` changes; ConfigError for an index of patches."""
    from segmentation.classification.matches import check_level

    check_level(folder)
    check_overrides(overrides, sections=SECTIONS)
    return changed_recipe(folder, overrides)


def _results(
    classifier: Classifier, asked: Sequence[Input], skipped: list[tuple[str, str]] | None
) -> Generator[tuple[Input, Classification], None, None]:
    """Each input with its classes, in order; ``skipped`` takes those that cannot be read."""
    from retrieval.progress import track

    with track(ProgressDisplay(), "classifying", len(asked)) as task:

        def skip(item: Input, error: DataError) -> None:
            assert skipped is not None
            skipped.append((item.name, str(error)))
            task.advance()

        on_error = None if skipped is None else skip
        with closing(
            classifier.classify_many(((item, item.source) for item in asked), on_error=on_error)
        ) as results:
            for result in results:
                yield result
                task.advance()


def check_files(files: Sequence[Path], json_file: Path | None, csv_file: Path | None) -> None:
    """Raise ConfigError for files that cannot be written or would replace an input; say what is replaced."""
    inputs = {real_path(path) for path in files}
    if json_file is not None and csv_file is not None and real_path(json_file) == real_path(csv_file):
        raise ConfigError(f"--json and --csv both name {json_file}; give them two names")
    for path, option in ((json_file, "--json"), (csv_file, "--csv")):
        if path is None:
            continue
        if real_path(path) in inputs:
            raise ConfigError(f"{path} is one of the files to classify; choose another name for {option}")
        (check_file if option == "--json" else check_place)(path, option)
        if path.exists():
            say(f"{path} is there already and will be replaced")


def check_sorting(asked: Sequence[Input], folder: Path) -> None:
    """Raise ConfigError, before any work, for a folder that holds something, or two files of one name."""
    loose = next((item for item in asked if item.place is None), None)
    if loose is not None:
        raise ConfigError(
            f"--sort-into copies files, and {loose.name[:60]!r} is none of its own; leave it out, or write a "
            "table with --csv"
        )
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file, but --sort-into names a folder; choose another name")
    if folder.is_dir() and any(folder.iterdir()):
        raise ConfigError(f"{folder} is not empty; choose a new or empty folder for --sort-into")
    owners: dict[Path, Path] = {}
    for item in asked:
        assert isinstance(item.source, Path) and item.place is not None
        twin = owners.setdefault(item.place, item.source)
        if twin is not item.source:
            raise ConfigError(
                f"{twin} and {item.source} would both be {item.place} in the folder of their class; "
                "rename one of them, or sort them into two folders"
            )


def class_folders(names: Sequence[str]) -> dict[str, str]:
    """A folder name for each class: its own, without what a folder name cannot have.

    Raises ConfigError where two classes would share one.
    """
    folders: dict[str, str] = {}
    owners: dict[str, str] = {}
    for name in names:
        plain = "".join("_" if c in '/\\:*?"<>|' or not c.isprintable() else c for c in name).strip(" .")
        folders[name] = plain or "_"
        twin = owners.setdefault(folders[name].casefold(), name)
        if twin != name:
            raise ConfigError(
                f"the classes {twin!r} and {name!r} would share the folder {folders[name]!r}; "
                "rename one of them in the data set and build the index again"
            )
    return folders


def put(source: Path, target: Path, *, link: bool) -> None:
    """Copy or link a file to a new place; raises StorageError, ConfigError where something is there."""
    with storage_errors(target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists() or target.is_symlink():
            raise ConfigError(f"{target} exists already; choose a new or empty folder for --sort-into")
        if link:
            target.symlink_to(real_path(source))
        else:
            copy_file(source, target, dated=True)


def write_csv(path: Path, entries: Sequence[dict[str, Any]], top: int, *, kind: str = "image") -> None:
    """A line for each input: its name, then ``top`` classes with their shares 0..1. Raises StorageError."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    head = [f"{name}{number}" for number in range(1, top + 1) for name in ("class", "share")]
    writer.writerow([kind, *head])
    for entry in entries:
        cells = [cell for pair in entry["classes"].items() for cell in pair]
        writer.writerow([entry[kind], *cells, *[""] * (2 * top - len(cells))])
    with atomic_write(path) as file:
        file.write(text.getvalue().encode(errors="backslashreplace"))
