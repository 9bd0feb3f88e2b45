"""ADE20K as its scene parsing benchmark lays it out: ``images/training/`` and ``annotations/training/``.

Masks hold ids 1..150, and 0 where there is no label.
Source: CSAILVision/sceneparsing (objectInfo150.csv; of several names of a class the first).
"""

from __future__ import annotations

from pathlib import Path

from indexer.datasets.base import Dataset, Layout, Sample, check_samples, choose_split
from indexer.datasets.labels import MaskFile
from indexer.datasets.masks import color_of_id
from indexer.datasets.names import id_of
from indexer.images.listing import list_folder, subfolders
from retrieval.classes import ClassInfo, ClassMap

_NAMES = """
wall, building, sky, floor, tree, ceiling, road, bed, windowpane, grass, cabinet, sidewalk, person,
earth, door, table, mountain, plant, curtain, chair, car, water, painting, sofa, shelf, house, sea,
mirror, rug, field, armchair, seat, fence, desk, rock, wardrobe, lamp, bathtub, railing, cushion, base,
box, column, signboard, chest of drawers, counter, sand, sink, skyscraper, fireplace, refrigerator,
grandstand, path, stairs, runway, case, pool table, pillow, screen door, stairway, river, bridge,
bookcase, blind, coffee table, toilet, flower, book, hill, bench, countertop, stove, palm, kitchen
island, computer, swivel chair, boat, bar, arcade machine, hovel, bus, towel, light, truck, tower,
chandelier, awning, streetlight, booth, television receiver, airplane, dirt track, apparel, pole, land,
bannister, escalator, ottoman, bottle, buffet, poster, stage, van, ship, fountain, conveyer belt, canopy,
washer, plaything, swimming pool, stool, barrel, basket, waterfall, tent, bag, minibike, cradle, oven,
ball, food, step, tank, trade name, microwave, pot, animal, bicycle, lake, dishwasher, screen, blanket,
sculpture, hood, sconce, vase, traffic light, tray, ashcan, fan, pier, crt screen, plate, monitor,
bulletin board, shower, radiator, glass, clock, flag
"""
CLASSES = ClassMap(
    tuple(ClassInfo(id, name.strip(), color_of_id(id)) for id, name in enumerate(_NAMES.split(","), start=1)),
    ignore=(0,),
)


def find(path: Path) -> Path | None:
    """``path``, or ADEChallengeData2016 in it, where images called ADE_... lie in both folders, or None."""
    candidates = (path, path / "ADEChallengeData2016")
    return next((root for root in candidates if splits(root)), None)


def splits(root: Path) -> list[str]:
    """The folders of images whose masks are there, sorted: training and validation."""
    parts = subfolders(root / "images")
    return [
        part.name
        for part in parts
        if next(part.glob("ADE_*.jpg"), None)
        and next((root / "annotations" / part.name).glob("ADE_*.png"), None)
    ]


def load(root: Path, split: str | None) -> Dataset:
    """The images of a split, sorted; DatasetError for a split that is unknown or must be chosen."""
    split = choose_split(split, splits(root), where=root)
    folder = root / "images" / split
    listing = list_folder(folder)
    ids = [id_of(image, folder) for image in listing.images]
    masks = [root / "annotations" / split / f"{id}.png" for id in ids]
    samples = [
        Sample(id, image, MaskFile(mask, CLASSES))
        for id, image, mask in zip(ids, listing.images, masks, strict=True)
    ]
    return Dataset(
        "ADE20K",
        "ade20k",
        root,
        split,
        check_samples(samples, where=folder),
        CLASSES,
        notes=listing.notes(),
        left_out=listing.endings(),
    )


LAYOUT = Layout(
    "ade20k",
    "ADE20K: images/training/, annotations/training/ and the same of validation/",
    find,
    load,
    splits,
)
