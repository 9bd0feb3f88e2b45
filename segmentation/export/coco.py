"""COCO's format of object detection (https://cocodataset.org/#format-data): one file a run.

An annotation is a connected region. Its segmentation is polygons, or a run-length code in pycocotools' own
compressed text; area (in pixels) and box come from pycocotools. ``category_id`` is the class id of the
masks, ``score`` (not COCO's) the mean confidence. Holes in polygons hang on by a seam.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from typing import Any

from retrieval.errors import MissingExtraError
from segmentation.export.base import ExportSettings, Format, LabelledPhoto, RunFile, to_json
from segmentation.export.regions import Region
from segmentation.export.runs import photo_columns
from segmentation.export.seams import joined

COCO_EXTRA = "coco"


def _require() -> None:
    if find_spec("pycocotools") is None:
        raise MissingExtraError(
            "masks in COCO's format need the package pycocotools; "
            f"install it with: pip install 'mycelia[{COCO_EXTRA}]'"
        )


#: From a photo and the run-length codes of its regions to what stands for them in their annotations.
Draw = Callable[[LabelledPhoto, Sequence[dict[str, Any]]], list[Any]]


def _polygons(photo: LabelledPhoto, codes: Sequence[dict[str, Any]]) -> list[Any]:
    return [[joined(part).ravel().tolist() for part in parts] for _, parts in photo.outlines]


def _runs(photo: LabelledPhoto, codes: Sequence[dict[str, Any]]) -> list[Any]:
    return [{"size": code["size"], "counts": code["counts"].decode("ascii")} for code in codes]


def _format(name: str, about: str, draw: Draw) -> Format:
    def record(photo: LabelledPhoto) -> dict[str, Any]:
        height, width = photo.shape
        codes = [_code(region, photo.shape) for region in photo.regions]
        drawn = zip(photo.regions, codes, draw(photo, codes), strict=True)
        return {
            "image": {"file_name": photo.name, "width": width, "height": height},
            "annotations": [_annotation(photo, *each) for each in drawn],
        }

    return Format(name, about, run_file=RunFile(f"{name}.json", record, _assemble), require=_require)


def _code(region: Region, shape: tuple[int, int]) -> dict[str, Any]:
    """The region's compressed run-length code in a photo of ``shape`` (H, W)."""
    from pycocotools import mask as coco

    runs = {"size": list(shape), "counts": photo_columns(region, shape)}
    code: dict[str, Any] = coco.frPyObjects(runs, *shape)
    return code


def _annotation(
    photo: LabelledPhoto, region: Region, code: dict[str, Any], segmentation: Any
) -> dict[str, Any]:
    from pycocotools import mask as coco

    entry = {
        "category_id": photo.settings.classes.classes[region.column].id,
        "segmentation": segmentation,
        "area": float(coco.area(code)),
        "bbox": coco.toBbox(code).tolist(),
        "iscrowd": 0,
    }
    return entry if region.score is None else {**entry, "score": region.score}


def _assemble(records: Callable[[], Iterator[Any]], settings: ExportSettings) -> Iterator[str]:
    classes = [settings.classes.classes[column] for column in settings.columns]
    categories = [{"id": info.id, "name": info.name, "supercategory": ""} for info in classes]
    info = to_json({"description": "masks by Mycelia"})
    yield f'{{"info":{info},"licenses":[],"categories":{to_json(categories)},\n"images":['
    for number, record in enumerate(records(), start=1):
        yield (",\n" if number > 1 else "\n") + to_json({"id": number, **record["image"]})
    yield '\n],\n"annotations":['
    count = 0
    for image, record in enumerate(records(), start=1):
        for entry in record["annotations"]:
            count += 1
            yield (",\n" if count > 1 else "\n") + to_json({"id": count, "image_id": image, **entry})
    yield "\n]}\n"


FORMATS = (
    _format("coco", "COCO, connected regions as polygons", _polygons),
    _format("coco-rle", "COCO, connected regions as run lengths", _runs),
)
