"""``mycelia classes``: the ids or colours in a data set's masks, and a ``classes.json`` to fill in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from segmentation.cli.arguments import DataPath, Format, ImageFolder, MaskFolder, MaxPixels, Split
from segmentation.cli.console import count_of, say, show, show_json, show_table
from segmentation.cli.progress import ProgressDisplay

if TYPE_CHECKING:
    from indexer.datasets.template import Template
    from indexer.datasets.values import MaskValue

#: Rows that a person is shown, and rare colours that are named.
MOST_ROWS, MOST_RARE = 60, 8


def classes(
    data: DataPath,
    *,
    split: Split = None,
    format: Format = "auto",
    images: ImageFolder = None,
    masks: MaskFolder = None,
    write: Annotated[
        bool, typer.Option("--write", help="Write them as DATA/classes.json, to put names in.")
    ] = False,
    max_pixels: MaxPixels = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was found as JSON.")] = False,
) -> None:
    """List the class ids or colours in the masks, with their share of the pixels.

    Works on masks whose classes nobody has named yet. --write makes a classes.json of them beside the
    data, never over one that is there; put your names in the place of class_0, class_1 and so on.
    Colours of less than 0.05 % of the pixels are listed apart: most are noise from smoothed edges or a JPEG.

    \b
    Examples:
      mycelia classes my-data
      mycelia classes my-data --write
      mycelia classes export --split default --json
    """
    from indexer.datasets.template import make_template

    template = make_template(
        data, split=split, format=format, images=images, masks=masks, progress=ProgressDisplay()
    )
    if as_json:
        show_json(_as_json(template))
    else:
        _show(template)
    if write:
        path = template.write()
        say(f"{path}: {count_of(len(template.classes), 'class', 'classes')}; now put names in it")
    elif not as_json and not template.path.exists():
        say(f"next: mycelia classes {data} --write makes a classes.json of this")


def _show(template: Template) -> None:
    """The table of classes, then what is no class and what could not be read, on stdout."""
    values = template.values
    rows = [[name, *_cells(value)] for name, value in template.classes[:MOST_ROWS]]
    rows += [["unlabelled", *_cells(value)] for value in values.ids if value.id in template.ignored]
    mixed = [value for value in values.colors if value not in template.noise] if values.ids else []
    rows += [["?", *_cells(value)] for value in mixed[:MOST_ROWS]]
    title = f"{count_of(values.masks, 'mask')}; percent of all pixels"
    show_table(title, ["name", "id", "colour", "%", "masks"], rows, text=("name", "colour"))
    if len(template.classes) > MOST_ROWS:
        show(f"and {len(template.classes) - MOST_ROWS:,} more")
    if values.ids and values.colors:
        show("some masks hold ids and some colours (?); save all of them in one way")
    if template.noise:
        named = ", ".join(str(value.color) for value in template.noise[:MOST_RARE])
        more = ", ..." if len(template.noise) > MOST_RARE else ""
        share = sum(value.share for value in template.noise)
        show(
            f"left out as probable noise, each below 0.05 % of the pixels: "
            f"{count_of(len(template.noise), 'colour')} ({100 * share:.2g} % together): {named}{more}"
        )
    for text in values.disagreeing:
        show(f"odd: {text}")
    if template.refusal:
        show(f"a build would say: {template.refusal}")
    if values.bad:
        show(f"odd: {count_of(len(values.bad), 'mask')} cannot be read, the first: {values.bad[0][1]}")


def _cells(value: MaskValue) -> list[str]:
    id = "" if value.id is None else str(value.id)
    return [id, ", ".join(map(str, value.color)), f"{100 * value.share:.3g}", f"{value.images:,}"]


def _as_json(template: Template) -> dict[str, object]:
    """What :func:`_show` shows, for a program."""
    values = template.values
    entries = [{"name": name, **_value_json(value)} for name, value in template.classes]
    return {
        "masks": values.masks,
        "classes": entries,
        "ignore": list(template.ignored),
        "noise": [_value_json(value) for value in template.noise],
        "palettes": values.palettes,
        "disagreeing": list(values.disagreeing),
        "bad": [{"mask": str(path), "reason": reason} for path, reason in values.bad],
        "refusal": template.refusal,
        "template": template.to_json(),
    }


def _value_json(value: MaskValue) -> dict[str, object]:
    return {
        "id": value.id,
        "color": list(value.color),
        "share": value.share,
        "images": value.images,
    }
