"""``mycelia evaluate``: how well an index segments a labelled data set."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from retrieval.errors import ConfigError
from segmentation.cli.arguments import (
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
    read_dataset,
)
from segmentation.cli.console import count_of, format_percent, say, say_skipped, show, show_table
from segmentation.cli.files import check_file, check_folder, write_json
from segmentation.cli.overrides import changed_recipe, open_segmenter
from segmentation.cli.progress import ProgressDisplay
from segmentation.cli.sureness import show_sureness, store_calibration
from segmentation.cli.thresholds import parse_threshold

if TYPE_CHECKING:
    import numpy.typing as npt

    from segmentation.scoring.evaluator import EvaluationReport


class ProtocolName(str, Enum):
    """How to score; see ``segmentation.scoring.evaluator``."""

    standard = "standard"
    hummingbird = "hummingbird"


def evaluate(
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
    protocol: Annotated[
        ProtocolName,
        typer.Option("--protocol", help="hummingbird: also the number that the peers' code gives."),
    ] = ProtocolName.standard,
    json_file: Annotated[
        Path | None,
        typer.Option("--json", help="Write the whole report as JSON; replaces only what Mycelia wrote."),
    ] = None,
    report: Annotated[
        Path | None, typer.Option("--report", help="Write a page of pictures into this folder.")
    ] = None,
    picture: Annotated[
        Path | None,
        typer.Option(
            "--picture",
            help="Write the confusion matrix as a picture (PNG); replaces only what Mycelia wrote.",
        ),
    ] = None,
    skip_bad: SkipBad = False,
    max_pixels: MaxPixels = None,
    leave_out: Annotated[
        bool,
        typer.Option("--leave-out", help="Score an image that is in the memory without itself."),
    ] = False,
    calibrate: Annotated[
        bool,
        typer.Option("--calibrate", help="Fit confidence to these images, and store that in the index."),
    ] = False,
    defect: Annotated[
        str | None,
        typer.Option("--defect", metavar="CLASS[=T]", help="Also tell images with CLASS from those without."),
    ] = None,
) -> None:
    """Segment (or, with an index of whole images, classify) a labelled data set, and score what comes.

    \b
    Examples:
      mycelia evaluate voc.index VOCdevkit/VOC2012 --split val
      mycelia evaluate cam.index camvid --split val --json cam.json --report cam-report
      mycelia evaluate my.index the-same-photos --leave-out
      mycelia evaluate my.index the-same-photos --leave-out --calibrate
      mycelia evaluate steel.index steel --split train --leave-out --defect scratch
      mycelia evaluate flowers.index flowers --split val --report mistakes --picture confusion.png
      mycelia evaluate cam.index camvid --split val transfer.k=50 transfer.temperature=0.05

    \b
    Settings (KEY=VALUE) that may differ from those of the build:
      transfer.k  transfer.temperature  runtime.device  runtime.precision  runtime.batch_size
      rerank.candidates  (a number, where the index was built with one)
      image.shifts=2  (a patch grid twice as fine, in four times the time)  image.flip=true
      image.overlap  (of tiles, where the index has an image.scale)
      transfer.refine=guided  transfer.refine_radius  transfer.refine_eps  (edges that follow the photo's)
      transfer.unknown=0.01  (blank what is unlike the memory)
      transfer.calibration=1.5  (null: none)  transfer.prior='{road: 0.3}'  (class shares, or a file)
    """
    from retrieval import IndexFolder

    folder = IndexFolder.open(index)
    recipe = changed_recipe(folder, overrides)
    dataset = read_dataset(
        data, split=split, format=format, subset=subset, images=images, masks=masks, unmasked=unmasked
    )

    if calibrate and defect is not None:
        raise ConfigError(
            "--calibrate changes the shares that --defect judges by: run it first, and --defect then"
        )
    if recipe.whole:
        if calibrate or defect is not None:
            raise ConfigError("--calibrate and --defect are about masks; this index describes whole images")
        from segmentation.cli.evaluate_images import evaluate_images

        evaluate_images(
            folder,
            recipe,
            dataset,
            json_file=json_file,
            report=report,
            picture=picture,
            skip_bad=skip_bad,
            leave_out=leave_out,
        )
        return

    from segmentation.scoring.evaluator import evaluate as run
    from segmentation.scoring.peers import protocol_note
    from segmentation.scoring.report import check_report_folder, write_report

    if report is not None:
        check_folder(report, "--report")
        check_report_folder(report)
    if json_file is not None:
        check_file(json_file, "--json")
    if picture is not None:
        check_file(picture, "--picture")
    note = protocol_note(recipe, protocol.value)
    if note is not None:
        say(f"warning: {note}")
    name, threshold = (
        (defect, None) if defect is None or "=" not in defect else parse_threshold(defect, "--defect")
    )
    with open_segmenter(folder, recipe) as segmenter:
        result = run(
            segmenter,
            dataset,
            protocol=protocol.value,
            skip_bad=skip_bad,
            leave_out=leave_out,
            calibrate=calibrate,
            defect=name,
            threshold=threshold,
            progress=ProgressDisplay(),
        )
        # What was computed is shown first: it must not be lost to a disk that is full.
        show_result(result)
        show_sureness(result)
        say_skipped([(image.id, image.reason) for image in result.skipped])
        if json_file is not None:
            write_json(json_file, result.to_json())
            say(f"report: {json_file}")
        if picture is not None:
            write_confusion(picture, result.confusion, result.classes.names)
        if report is not None:
            say(f"page: {write_report(result, segmenter, dataset, report)}")
    if calibrate:
        store_calibration(index, result.calibration, overrides=overrides or (), leave_out=leave_out)


def write_confusion(path: Path, confusion: npt.NDArray[Any], names: Sequence[str]) -> None:
    """Write the confusion matrix (C, C) as a picture, and say where; raises StorageError."""
    from segmentation.drawing.confusion import draw_confusion
    from segmentation.drawing.pictures import write_figure

    say(f"confusion matrix: {write_figure(path, draw_confusion(confusion, names))}")


def show_result(report: EvaluationReport) -> None:
    """The table per class, the mean last, on stdout; before it what the mean would hide."""
    if report.memory_note is not None:
        say(("note: " if report.leave_out else "warning: ") + report.memory_note)
    if report.summary is not None:
        show(report.summary)
    rows = [
        [row.name, *map(format_percent, (row.iou, row.boundary, row.accuracy, row.truth, row.predicted))]
        for row in report.rows()
    ]
    means = (report.miou, report.boundary_miou, report.mean_accuracy)
    rows.append(["mean", *map(format_percent, means), "", ""])
    if report.hummingbird_miou is not None:
        rows.append(["hummingbird protocol", format_percent(report.hummingbird_miou), "", "", "", ""])
    title = f"{count_of(report.images, 'image')}, {report.seconds:.0f} s; percent"
    show_table(title, ["class", "IoU", "boundary IoU", "accuracy", "of truth", "of prediction"], rows)
