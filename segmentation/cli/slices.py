"""``mycelia slices``: volumes in, a data set of images (and masks) out."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from retrieval.errors import ConfigError, DatasetError
from segmentation.cli.console import count_of, say, show
from segmentation.cli.files import check_folder, check_new_folder
from segmentation.cli.progress import ProgressDisplay

if TYPE_CHECKING:
    from indexer.images.volumes import Window

#: The number of the channel that nnU-Net puts behind the names of images, and not of labels.
_CHANNEL = re.compile(r"_\d{4}$")


def slices(
    volumes: Annotated[
        list[Path],
        typer.Argument(metavar="VOLUME|FOLDER", help="NIfTI or TIFF of several pages, or folders."),
    ],
    *,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the new data set.")],
    labels: Annotated[
        Path | None,
        typer.Option(
            "--labels", metavar="FOLDER", help="Folder of the label volumes, which have equal names."
        ),
    ] = None,
    window: Annotated[
        str | None,
        typer.Option(
            "--window",
            metavar="LOW,HIGH",
            help="Values that become black and white; the 0.5th and 99.5th percentile of each without.",
        ),
    ] = None,
    axis: Annotated[
        int,
        typer.Option("--axis", min=0, max=2, help="Of NIfTI, the axis to cut along: 2 gives axial slices."),
    ] = 2,
    every: Annotated[int, typer.Option("--every", min=1, metavar="N", help="Every N-th slice alone.")] = 1,
) -> None:
    """Cut volumes into images/NAME#007.png, and their label volumes into masks of the same names.

    The folder is there once all of them are cut, or not at all.

    \b
    Example:
      mycelia slices imagesTr --labels labelsTr --out my-data --window=-160,240
    """
    import numpy as np

    from indexer.images.volumes import Window, read_labels, read_volume
    from retrieval.progress import track
    from retrieval.store.staging import staging
    from segmentation.drawing.pictures import write_image

    check_folder(out, "--out")
    check_new_folder(out)
    given = None if window is None else Window(*_numbers(window))
    found = _volumes(volumes)
    if out.exists() and any(out.iterdir()):
        raise ConfigError(f"{out} exists already; choose another --out")
    paired = {path: None if labels is None else _label_of(name, labels) for name, path in found.items()}
    written = 0
    with staging(out, "slices") as work, track(ProgressDisplay(), "cutting", len(found)) as task:
        for name, path in found.items():
            values = read_volume(path, axis=axis)
            chosen = given or _stated(path, Window.of(values))
            file = paired[path]
            ids = None if file is None else read_labels(file, values.shape, axis=axis)
            for number in range(0, len(values), every):
                place = f"{name}#{number:03}.png"
                (work / "images").mkdir(exist_ok=True)
                write_image(work / "images" / place, chosen.to_bytes(values[number]))
                if ids is not None:
                    (work / "masks").mkdir(exist_ok=True)
                    mask = ids[number] if ids.max() > 255 else ids[number].astype(np.uint8)
                    write_image(work / "masks" / place, mask)
                written += 1
            task.advance()
    say(f"cut {count_of(len(found), 'volume')} into {count_of(written, 'slice')}")
    show(str(out))
    if labels is not None:
        say(f"next: mycelia classes {out} --write, to name the classes")


def _numbers(text: str) -> tuple[float, float]:
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(f"--window is {text!r}; give two numbers, for example --window=-160,240") from None
    if not low < high or not (math.isfinite(low) and math.isfinite(high)):
        raise ConfigError(f"--window is {text!r}; the first number has to be below the second")
    return low, high


def _stated(path: Path, window: Window) -> Window:
    say(f"{path.name}: values {window.low:g} to {window.high:g} become grey 0 to 255")
    return window


def _volumes(paths: Sequence[Path]) -> dict[str, Path]:
    """Volumes by their names; raises DatasetError for none, or two of one name."""
    from indexer.images.volumes import volume_name

    found: dict[str, Path] = {}
    for path in paths:
        for file in sorted(path.iterdir()) if path.is_dir() else [path]:
            name = volume_name(file)
            if name is None and file == path:
                raise DatasetError(f"{path} is no volume; expected a folder, .nii, .nii.gz or .tif")
            if name is None or file.name.startswith("."):
                continue
            if name in found:
                raise DatasetError(f"{found[name]} and {file} have one name; rename one of them")
            found[name] = file
    if not found:
        raise DatasetError(f"{paths[0]} holds no volume; expected files such as 1.nii.gz or 1.tif")
    return found


def _label_of(name: str, folder: Path) -> Path:
    from indexer.images.volumes import VOLUME_SUFFIXES

    for stem in (name, _CHANNEL.sub("", name)):
        for suffix in VOLUME_SUFFIXES:
            if (folder / f"{stem}{suffix}").is_file():
                return folder / f"{stem}{suffix}"
    raise DatasetError(
        f"{folder} holds no label volume of {name}; expected {name}.nii.gz or the like, or leave --labels out"
    )
