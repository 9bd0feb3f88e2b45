"""Makes ``docs/settings.md``: every key of a recipe, from the classes that check it.

python docs/make_settings.py
"""

from __future__ import annotations

import inspect
import json
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from indexer.recipe import Recipe

OUT = Path(__file__).parent / "settings.md"

HEAD = """\
# Settings

<!-- Made by `python docs/make_settings.py` from the classes that check a recipe. Change those, not this page. -->

Every setting is a key of a recipe, a YAML file; those that come with Mycelia lie in `configs/` and are found
by their bare names. `key=value` on the command line changes one, with dots between sections and key:

```sh
mycelia index build DATA --out my.index --config camvid.yaml features.kind=embeddings image.size=[364,476]
```

The resolved recipe is stored in the index. An unknown key is refused, and the nearest known one is named. What
decides the stored rows is fixed when an index is built; `transfer.*`, `image.overlap`, `image.shifts`, `image.flip`,
`runtime.*` and the number in `rerank.candidates` may be others each time it is asked.

| recipe | what |
| --- | --- |
| `offline.yaml` | weights from the package registry; the default where the hub cannot be reached |
| `text.yaml`, `text-offline.yaml` | texts: BERT from the hub, or MiniLM from the package registry |
| `audio.yaml` | recordings: an audio spectrogram transformer from the hub |
| `default.yaml` | DINOv2 ViT-S/14 with registers from the hub; the default elsewhere |
| `fast.yaml`, `balanced.yaml`, `best.yaml` | masks under a metric that knows the labels; then with refined edges; then seen four times |
| `camvid.yaml` | the weights of `offline.yaml`, for street scenes |
| `camvid-compact.yaml` | the same for large banks: 192 half-whitened components in 8 bits |
| `voc-dino-s16.yaml`, `voc-dino-b16.yaml`, `voc-dinov2-s14.yaml`, `voc-dinov2-b14.yaml` | the papers' settings for Pascal VOC |
| `voc-dinov2-s14-standard.yaml` | the same data and weights with a memory of ours: ignored pixels left out, factored projection |
| `voc-low-data.yaml` | the papers' low-data protocol, 83 images |
| `qdrant-cluster.yaml` | a bank in a Qdrant cluster ([scaling](scaling.md)) |
"""  # noqa: E501

#: Signs of the limits that pydantic keeps beside a field.
LIMITS = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}
#: A bar inside a cell of a table.
BAR = r"\|"
KINDS = {int: "whole number", float: "number", str: "text"}


def settings_page() -> str:
    """The whole page: a table of keys for each section, sections of sections included."""
    return HEAD + "".join(_section(name, model) for name, model in sections(Recipe))


def sections(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, type[BaseModel]]]:
    """(dotted name, model) of a model and of all sections below it, in their order."""
    yield prefix, model
    for name, field in model.model_fields.items():
        below = section_of(field)
        if below is not None:
            yield from sections(below, f"{prefix}.{name}" if prefix else name)


def section_of(field: FieldInfo) -> type[BaseModel] | None:
    """The model of a field that is a section of settings, else None."""
    for kind in (field.annotation, *get_args(field.annotation)):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None


def _section(prefix: str, model: type[BaseModel]) -> str:
    keys = {name: field for name, field in model.model_fields.items() if section_of(field) is None}
    if not keys:
        return ""
    dotted = f"{prefix}." if prefix else ""
    title = f"`{prefix}`" if prefix else "The whole recipe"
    about = " ".join(inspect.cleandoc(model.__doc__ or "").split("\n\n")[0].split())
    lines = [
        "",
        f"## {title}",
        "",
        about,
        "",
        "| key | meaning | values | default |",
        "| --- | --- | --- | --- |",
    ]
    for name, field in keys.items():
        cells = (f"`{dotted}{name}`", field.description or "", _values(field), _default(field))
        lines.append(f"| {' | '.join(cell.replace('|', BAR) for cell in cells)} |")
    return "\n".join([*lines, ""])


def _values(field: FieldInfo) -> str:
    """What a field takes, in words."""
    limits = [
        f"{sign} {getattr(limit, name):,}"
        for limit in field.metadata
        for name, sign in LIMITS.items()
        if getattr(limit, name, None) is not None
    ]
    return ", ".join([_kind(field.annotation), *limits])


def _kind(annotation: Any) -> str:
    origin, inside = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " | ".join(f"`{value}`" for value in inside)
    if origin in (Union, types.UnionType):
        return " or ".join(_kind(part) for part in inside if part is not type(None))
    if origin is tuple and Ellipsis in inside:
        return f"list of {KINDS[inside[0]]}s"
    if origin is tuple:
        return f"[{', '.join(_kind(part) for part in inside)}]"
    if origin is dict:
        return f"{{name: {_kind(inside[1])}, ...}}"
    if annotation is bool:
        return "`true` | `false`"
    return KINDS.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    if value is None:
        return "empty (`null`)"
    return f"`{value}`" if isinstance(value, str) else f"`{json.dumps(value)}`"


if __name__ == "__main__":
    OUT.write_text(settings_page(), encoding="utf-8")
    print(OUT)
