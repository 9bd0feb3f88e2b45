"""``mycelia tune``: choose a recipe's settings without a validation set."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from indexer.kinds import NOUNS
from retrieval.errors import ConfigError
from segmentation.cli.archives import given
from segmentation.cli.arguments import (
    Config,
    DataPath,
    Format,
    MaskFolder,
    MaxPixels,
    Overrides,
    Split,
    Subset,
    read_dataset,
    read_recipe,
)
from segmentation.cli.console import count_of, say, show
from segmentation.cli.files import check_file, check_place, write_json
from segmentation.cli.progress import ProgressDisplay
from segmentation.cli.tune_images import tune_whole_images
from segmentation.cli.tune_report import show_report

if TYPE_CHECKING:
    from indexer.datasets import Dataset
    from indexer.recipe import Recipe
    from segmentation.tuning.image_settings import ImageCandidates
    from segmentation.tuning.report import TuningReport

Number = TypeVar("Number", int, float)

Group = Annotated[
    str | None,
    typer.Option(
        "--group",
        metavar="REGEX|LETTERS",
        help="Leave out together the images whose ids share their first LETTERS, or what REGEX finds "
        "(its first bracket): a sequence, a patient. Otherwise every image alone.",
    ),
]
Images = Annotated[
    list[str] | None,
    typer.Option(
        "--images",
        metavar="NUMBER|FOLDER",
        help="How many images to leave out, evenly chosen (60; of whole images 1000); or the folder of "
        "images, in DATA or from here.",
    ),
]
Blocks = Annotated[
    str | None,
    typer.Option(
        "--blocks",
        metavar="N,N,...",
        help="Blocks to try; the last third when empty, of whole images the recipe's alone.",
    ),
]
Weights = Annotated[
    str | None,
    typer.Option(
        "--weights",
        metavar="W,W,...",
        help="Gradient weights, 0 for plain embeddings; 0,0.25,0.5,1, of whole images 0.25, 0.5, 1 and 2 "
        "times the number of objectives.",
    ),
]
Ks = Annotated[
    str | None,
    typer.Option("--k", metavar="K,K,...", help="Neighbours to try; 10,30,90, of whole images 1,5,10,20,30."),
]
Temperatures = Annotated[
    str | None,
    typer.Option(
        "--temperatures",
        metavar="T,T,...",
        help="transfer.temperature; 0.01,0.02,0.04,0.1, under a metric 0.02,0.03,0.06,0.1, "
        "of whole images 0.02,0.05,0.1.",
    ),
]
Objectives = Annotated[
    str | None,
    typer.Option(
        "--objectives",
        metavar="A,A+B,...",
        help="Of whole images: the objectives to join; kl,kl+dino,kl+dino+infonce. none, the embedding "
        "alone, is always tried.",
    ),
]
Pca = Annotated[
    str | None,
    typer.Option("--pca", metavar="N,N,...", help="Of whole images: widths of a PCA to try, 0 for none; 0."),
]
Metrics = Annotated[
    str | None,
    typer.Option("--metrics", metavar="M,M,...", help="features.metric to try; none,whiten,class."),
]
Widths = Annotated[
    str | None,
    typer.Option(
        "--widths",
        metavar="N,N,...",
        help="Widths of a metric; a sixth, a third and half of the embedding.",
    ),
]
Shrinkages = Annotated[
    str | None, typer.Option("--shrinkage", metavar="A,A,...", help="features.shrinkage to try; 0.1,0.3.")
]
Shifts = Annotated[
    str | None,
    typer.Option("--shifts", metavar="N,N,...", help="image.shifts of the leaders, besides 1; 1,2."),
]
Refines = Annotated[
    str | None,
    typer.Option("--refine", metavar="R,R", help="transfer.refine of the leaders; none,guided."),
]
Write = Annotated[
    str | None,
    typer.Option(
        "--write",
        metavar="fast|balanced|best",
        help="Which of the three choices --out gets (balanced); the others are in its comments.",
    ),
]


def tune(
    context: typer.Context,
    data: DataPath,
    overrides: Overrides = None,
    *,
    out: Annotated[Path, typer.Option("--out", "-o", help="The tuned recipe, a YAML file.")],
    config: Config = None,
    split: Split = None,
    format: Format = "auto",
    subset: Subset = None,
    group: Group = None,
    images: Images = None,
    masks: MaskFolder = None,
    blocks: Blocks = None,
    weights: Weights = None,
    k: Ks = None,
    temperatures: Temperatures = None,
    objectives: Objectives = None,
    pca: Pca = None,
    metrics: Metrics = None,
    widths: Widths = None,
    shrinkage: Shrinkages = None,
    shifts: Shifts = None,
    refine: Refines = None,
    write: Write = None,
    json_file: Annotated[
        Path | None,
        typer.Option("--json", help="Write all results as JSON; replaces only what Mycelia wrote."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the recipe that is in the way.")
    ] = False,
    max_pixels: MaxPixels = None,
) -> None:
    """Choose settings and say what score to expect, from labelled images alone.

    Each image, or each group of images, is left out of the memory bank in turn and segmented with the rest.
    Backbone block, features, metric, k, temperature, finer masks and the index's settings are chosen, and
    the last lines are three choices: fast takes no more time an image than plain embeddings, balanced at most
    1.15 times that, best whatever scores best. --out is a recipe for `mycelia index build`. What is expected
    does not profit from having tried many settings.
    Images that have a class as a whole are classified: objectives, weight, k and temperature are chosen, by
    top-1 (mAP where images have several classes), and what costs more has to be better by a standard error.

    \b
    Examples:
      mycelia tune my-data --out my.yaml
      mycelia tune camvid --split train --group 9 --config camvid.yaml --out tuned.yaml
      mycelia tune flowers --split train --objectives kl,kl+dino --out flowers.yaml
      mycelia tune camvid --split train --group 6 --blocks 9 --weights 0 --write best --out best.yaml
      mycelia tune scans --group "^(patient[0-9]+)" --blocks 8,9,10,11 --images 30 --out tuned.yaml

    \b
    Settings (KEY=VALUE) are those of `mycelia index build`; runtime.device=cpu says where to run.

    \b
    Time: of a ViT-S, 400 images, 100,000 patches and four blocks: 16 minutes of processor
    time on a CPU that is fast with bfloat16. A third is the model; --shifts 1 saves a quarter.
    Of whole images nearly all is the features: 0.1 s each with kl, 0.9 with dino too, 3 with infonce; but
    average precision of 1000 images of several classes takes a minute for each 25 classes.
    Memory: the banks of the blocks that lead, 2 bytes a number (0.25 GB for 100,000 patches of a ViT-S and
    their gradients), and copies of 2 and 4 bytes a number of what is searched.
    """
    check_out(out, overwrite=overwrite)
    if json_file is not None:
        check_file(json_file, "--json")

    tried = Tried(
        blocks=parse_numbers("--blocks", blocks, int),
        weights=parse_numbers("--weights", weights, float),
        ks=parse_numbers("--k", k, int),
        temperatures=parse_numbers("--temperatures", temperatures, float),
        metrics=parse_words(metrics),
        widths=parse_numbers("--widths", widths, int),
        shrinkages=parse_numbers("--shrinkage", shrinkage, float),
        shifts=parse_numbers("--shifts", shifts, int),
        refines=parse_words(refine),
    )
    of_masks = {
        "--metrics": metrics, "--widths": widths, "--shrinkage": shrinkage, "--shifts": shifts,
        "--refine": refine, "--write": write,
    }  # fmt: skip
    number, image_folder = split_images(images or ())
    dataset = read_dataset(data, split=split, format=format, subset=subset, images=image_folder, masks=masks)
    base, recipe = read_recipe(config, list(overrides or ()), dataset.kind)
    say(f"{dataset.name}: {count_of(len(dataset), NOUNS[dataset.kind])}")
    source = dataset.name + (f" ({dataset.split})" if dataset.split else "")
    folders = {"--images": image_folder, "--masks": masks}
    place = given(context, data)
    command = build_command(place, out, split=split, format=format, subset=subset, folders=folders)

    from indexer.bank.level import resolve_level

    resolved = resolve_level(recipe, dataset)
    if resolved.whole:
        refuse_options(of_masks, PATCHES_ONLY)
        tune_whole_images(
            dataset,
            resolved,
            image_candidates(tried, objectives, pca),
            group=group,
            images=number,
            out=out,
            json_file=json_file,
            base=base.name,
            data=source,
        )
    else:
        refuse_options({"--objectives": objectives, "--pca": pca}, IMAGES_ONLY)
        report = tune_patches(dataset, recipe, tried, group=group, images=number, write=write)
        write_results(report, out, json_file, base=base.name, data=source, rule=group)
    say(f"next: {command}")


@dataclass(frozen=True)
class Tried:
    """The numbers to try, of patches and of whole images."""

    blocks: Sequence[int] | None
    weights: Sequence[float] | None
    ks: Sequence[int] | None
    temperatures: Sequence[float] | None
    metrics: Sequence[str] | None
    widths: Sequence[int] | None
    shrinkages: Sequence[float] | None
    shifts: Sequence[int] | None
    refines: Sequence[str] | None


def tune_patches(
    dataset: Dataset,
    recipe: Recipe,
    tried: Tried,
    *,
    group: str | None,
    images: int | None,
    write: str | None,
) -> TuningReport:
    """Tune for patches, and show what came."""
    from segmentation.tuning.tuner import IMAGES, WRITE, Candidates
    from segmentation.tuning.tuner import tune as run

    report = run(
        dataset,
        recipe,
        group=group,
        candidates=Candidates(**vars(tried)),
        images=IMAGES if images is None else images,
        write=write or WRITE,
        progress=ProgressDisplay(),
    )
    show_report(report)
    return report


def image_candidates(tried: Tried, objectives: str | None, pca: str | None) -> ImageCandidates:
    """What to try of whole images; raises ConfigError for objectives or widths that are none."""
    from segmentation.tuning.image_settings import ImageCandidates, parse_objectives

    return ImageCandidates(
        objectives=None if objectives is None else parse_objectives(objectives),
        blocks=tried.blocks,
        weights=tried.weights,
        ks=tried.ks,
        temperatures=tried.temperatures,
        pca=parse_numbers("--pca", pca, int),
    )


#: Why an option is refused.
IMAGES_ONLY = (
    "it is of images that have a class as a whole, and these have masks; leave it out, or set "
    "features.level=image to classify images by the classes in their masks"
)
PATCHES_ONLY = "it is of images with masks, and these have a class as a whole; leave it out"


def refuse_options(options: Mapping[str, str | None], why: str) -> None:
    """Raise BadParameter for an option that was given and does not fit."""
    for option, value in options.items():
        if value is not None:
            raise typer.BadParameter(why, param_hint=option)


def write_results(
    report: TuningReport, out: Path, json_file: Path | None, *, base: str, data: str, rule: str | None
) -> None:
    """Write the tuned recipe, first because it took long to find, then the JSON where that is wanted."""
    from segmentation.tuning.recipe_file import write_recipe

    write_recipe(out, report, base=base, data=data, rule=rule)
    show(str(out))
    if json_file is not None:
        write_json(json_file, report.to_json())
        say(f"results: {json_file}")


def build_command(
    data: Path,
    recipe: Path,
    *,
    split: str | None,
    format: str,
    subset: str | None,
    folders: Mapping[str, str | None],
) -> str:
    """The command that builds an index of the same images with the tuned recipe."""
    chosen = f" --split {split}" if split else ""
    chosen += f" --format {format}" if format != "auto" else ""
    chosen += f" --subset {subset}" if subset else ""
    chosen += "".join(f" {option} {folder}" for option, folder in folders.items() if folder)
    return f"mycelia index build {data}{chosen} --config {recipe} --out tuned.index"


def check_out(out: Path, *, overwrite: bool) -> None:
    """Make the folder of ``out``; ConfigError where something is there already that may not be replaced."""
    if out.exists() and not out.is_dir() and not overwrite:
        raise ConfigError(f"{out} exists already; choose another --out, or replace it with --overwrite")
    check_place(out, "--out", kind="YAML file")


def split_images(values: Sequence[str]) -> tuple[int | None, str | None]:
    """How many images to leave out, if said, and the folder of images; both are given as ``--images``.

    Raises ConfigError for a number below 2, or two of a kind.
    """
    numbers = [int(value) for value in values if value.lstrip("+-").isdecimal()]
    folders = [value for value in values if not value.lstrip("+-").isdecimal()]
    if len(numbers) > 1 or len(folders) > 1:
        raise ConfigError(f"--images takes one number and one folder, not {' and '.join(values)}")
    number = numbers[0] if numbers else None
    if number is not None and number < 2:
        raise ConfigError(f"--images {number} should be a number of images from 2 on, or a folder")
    return number, folders[0] if folders else None


#: The largest number that is tried of anything.
MOST_NUMBER = 10**6


def parse_numbers(option: str, text: str | None, kind: type[Number]) -> list[Number] | None:
    """Numbers with commas between; ConfigError where ``text`` is none."""
    if text is None:
        return None
    try:
        numbers = [kind(part) for part in text.split(",")]
        if not all(abs(number) <= MOST_NUMBER for number in numbers):  # nor is nan
            raise ValueError("too large")
        return numbers
    except ValueError as error:
        what = "whole numbers" if kind is int else "numbers"
        raise ConfigError(
            f"{option} {reprlib.repr(text)} should be {what} with commas between, none above {MOST_NUMBER:,}"
        ) from error


def parse_words(text: str | None) -> list[str] | None:
    """Words with commas between."""
    return None if text is None else [part.strip() for part in text.split(",")]
