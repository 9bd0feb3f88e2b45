"""``mycelia evaluate`` on an index of whole images: how well it names the classes of a labelled data set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from indexer.kinds import NOUNS
from retrieval.errors import ConfigError, DataError
from segmentation.cli.console import count_of, format_percent, say, say_skipped, show, show_table
from segmentation.cli.files import check_file, check_folder, write_json
from segmentation.cli.progress import ProgressDisplay

if TYPE_CHECKING:
    from indexer.datasets import Dataset
    from indexer.recipe import Recipe
    from retrieval.folder import IndexFolder
    from segmentation.classification.scores import ClassificationReport

#: Pictures of mistakes that a report has, and the name of its picture of the confusion matrix.
PICTURES, CONFUSION = 12, "confusion.png"


def evaluate_images(
    folder: IndexFolder,
    recipe: Recipe,
    dataset: Dataset,
    *,
    json_file: Path | None,
    report: Path | None,
    picture: Path | None,
    skip_bad: bool,
    leave_out: bool,
) -> None:
    """Classify a data set, show the scores, and write what is asked for.

    Raises ConfigError where ``report`` is no new or empty folder, and as ``evaluate_classes``.
    """
    from segmentation.classification.classifier import Classifier
    from segmentation.classification.evaluate import evaluate_classes

    if report is not None:
        check_folder(report, "--report")
    if report is not None and report.exists() and not (report.is_dir() and not any(report.iterdir())):
        raise ConfigError(f"{report} is there already and not empty; name a new folder for the report")
    if json_file is not None:
        check_file(json_file, "--json")
    if picture is not None:
        check_file(picture, "--picture")
    transfer = recipe.transfer
    opened = Classifier.open(folder, runtime=recipe.runtime, k=transfer.k, temperature=transfer.temperature)
    with opened as classifier:
        result = evaluate_classes(
            classifier, dataset, leave_out=leave_out, skip_bad=skip_bad, progress=ProgressDisplay()
        )
    show_scores(result)
    say_skipped(list(result.skipped), NOUNS[dataset.kind])
    if json_file is not None:
        write_json(json_file, result.to_json())
        say(f"report: {json_file}")
    if picture is not None:
        _plot(result, picture)
    if report is not None:
        say(f"pictures of the worst mistakes: {count_of(_draw(result, report), 'sheet')} in {report}")
        _plot(result, report / CONFUSION)


def show_scores(report: ClassificationReport) -> None:
    """The table per class and the whole on stdout, notes and the worst mistakes on stderr."""
    for note in report.notes:
        say(f"note: {note}")
    rows = [
        [row.name, str(row.n), format_percent(row.recall), format_percent(row.precision)]
        for row in report.per_class
    ]
    title = f"{count_of(report.images, 'image')}, {report.seconds:.0f} s; percent"
    show_table(title, ["class", "images", "recall", "precision"], rows)
    show(f"top-1 {format_percent(report.top1)} (standard error {format_percent(report.top1_error)})")
    show(f"top-5 {format_percent(report.top5)}")
    show(f"balanced accuracy {format_percent(report.balanced)}")
    if report.mean_average_precision is not None:
        show(f"mean average precision {format_percent(report.mean_average_precision)}")
    for mistake in report.worst[:5]:
        truth = ", ".join(mistake.truth)
        say(f"mistake: {mistake.path}: {truth}, taken for {mistake.best} ({format_percent(mistake.share)})")


def _plot(report: ClassificationReport, path: Path) -> None:
    """The confusion matrix of the images that have one class; without such images only that is said."""
    from segmentation.drawing.confusion import draw_confusion
    from segmentation.drawing.pictures import write_figure

    count = int(report.confusion.sum())
    if count == 0:
        say(f"no {path.name}: a confusion matrix takes images of one class each, and there are none")
        return
    title = f"{count_of(count, 'image')}, shares of each row in percent"
    write_figure(path, draw_confusion(report.confusion, report.names, title=title))
    say(f"confusion matrix: {path}")


def _draw(report: ClassificationReport, folder: Path) -> int:
    """A sheet for each of the worst mistakes: the photo, and the memory images that spoke for it."""
    from indexer.images import read_image
    from segmentation.classification.sheet import similarity_sheet
    from segmentation.drawing.pictures import write_image

    folder.mkdir(parents=True, exist_ok=True)
    drawn = 0
    for number, mistake in enumerate(report.worst[:PICTURES], start=1):
        try:
            photo = read_image(mistake.path)
        except DataError:
            continue
        title = f"{', '.join(mistake.truth)}, taken for {mistake.best}"
        write_image(folder / f"mistake-{number:02d}.png", similarity_sheet(photo, title, mistake.neighbours))
        drawn += 1
    return drawn
