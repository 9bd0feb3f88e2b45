"""The demo's data set: real photographs with true masks, made from what scikit-image's wheel holds.

Nothing is downloaded and nothing is stored here: the photographs ship inside that wheel, and the
masks follow from them. Memory images and query images never show the same pixels.

=============== ======================== ========================== =================================
scene           memory                   query                      where the mask comes from
=============== ======================== ========================== =================================
garage          left stereo view         right stereo view          measured disparity (Middlebury)
coins           upper half of the photo  lower half                 ellipses around the coins
textures        left halves, in mosaics  right halves, in mosaics   exact by construction
person          astronaut                cameraman, another photo   polygons drawn by hand
=============== ======================== ========================== =================================
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from retrieval.classes import ClassInfo, ClassMap
from retrieval.errors import MissingExtraError

#: Mask value of a pixel without a label.
UNLABELLED_ID = 255

CLASSES = ClassMap(
    classes=(
        ClassInfo(0, "background", (60, 60, 70)),
        ClassInfo(1, "motorcycle", (214, 60, 60)),
        ClassInfo(2, "concrete", (170, 150, 120)),
        ClassInfo(3, "coin", (240, 200, 60)),
        ClassInfo(4, "brick", (190, 100, 50)),
        ClassInfo(5, "grass", (80, 170, 70)),
        ClassInfo(6, "gravel", (120, 140, 190)),
        ClassInfo(7, "person", (160, 80, 200)),
    ),
    ignore=(UNLABELLED_ID,),
)
BACKGROUND, MOTORCYCLE, CONCRETE, COIN, BRICK, GRASS, GRAVEL, PERSON = range(8)

Pixels = npt.NDArray[np.uint8]
Points = Sequence[tuple[int, int]]


@dataclass(frozen=True)
class Scene:
    """One demo image: ``image`` (H, W, 3) uint8 RGB and ``mask`` (H, W) uint8 class ids, 255 unlabelled."""

    id: str
    image: Pixels
    mask: Pixels


def write_demo_dataset(folder: Path) -> None:
    """Write ``folder/{images,masks}/{train,val}/*.png`` and ``folder/classes.json``: the plain folder layout.

    Raises MissingExtraError where scikit-image is not installed.
    """
    photos = find_photos()
    for split, scenes in (("train", memory_scenes(photos)), ("val", query_scenes(photos))):
        images, masks = folder / "images" / split, folder / "masks" / split
        images.mkdir(parents=True, exist_ok=True)
        masks.mkdir(parents=True, exist_ok=True)
        for scene in scenes:
            Image.fromarray(scene.image).save(images / f"{scene.id}.png")
            Image.fromarray(scene.mask).save(masks / f"{scene.id}.png")
    (folder / "classes.json").write_text(json.dumps(CLASSES.to_json(), indent=2) + "\n", encoding="utf-8")


def find_photos() -> Path:
    """The folder of photographs inside the installed scikit-image; raises MissingExtraError without it."""
    spec = find_spec("skimage")
    places = spec.submodule_search_locations if spec is not None else None
    if not places:
        raise MissingExtraError(
            "the demo takes its photographs from scikit-image, which is not installed; "
            "install the extra: pip install 'mycelia[demo]'"
        )
    return Path(places[0]) / "data"


def memory_scenes(photos: Path) -> Iterator[Scene]:
    """The labelled images that go into the memory bank."""
    yield _garage_left(photos)
    yield from _coins(photos, "coins-upper", rows=(0, 150))
    yield from _mosaics(photos, "mosaic-left", half=0, seeds=(1, 2, 3, 8))
    yield _astronaut(photos)


def query_scenes(photos: Path) -> Iterator[Scene]:
    """The images to be segmented, with the truth to score against."""
    yield _garage_right(photos)
    yield from _coins(photos, "coins-lower", rows=(150, 303))
    yield from _mosaics(photos, "mosaic-right", half=1, seeds=(5, 6, 7))
    yield _cameraman(photos)


# Garage: the floor is a plane in disparity; whatever stands before it and is near is the motorcycle.

#: Disparity of the floor in pixels: constant, per row, per column.
FLOOR_PLANE = (-28.57, 0.17296, -0.00200)
#: The floor starts below this row; walls and shelves stand above it.
FLOOR_TOP = 225
#: Disparity in pixels from which an object is nearer than the bench behind the motorcycle.
NEAR = 34.0


def _garage_left(photos: Path) -> Scene:
    disparity = _disparity(photos)
    return Scene("garage-left", _rgb(photos / "motorcycle_left.png"), _garage_mask(disparity))


def _garage_right(photos: Path) -> Scene:
    disparity = _disparity(photos)
    mask = carry_to_right(_garage_mask(disparity), disparity)
    return Scene("garage-right", _rgb(photos / "motorcycle_right.png"), mask)


def _disparity(photos: Path) -> npt.NDArray[np.float32]:
    with np.load(photos / "motorcycle_disp.npz", allow_pickle=False) as data:
        return np.asarray(data["arr_0"], dtype=np.float32)


def _garage_mask(disparity: npt.NDArray[np.float32]) -> Pixels:
    rows, cols = np.indices(disparity.shape)
    floor = FLOOR_PLANE[0] + FLOOR_PLANE[1] * rows + FLOOR_PLANE[2] * cols
    mask = np.full(disparity.shape, BACKGROUND, dtype=np.uint8)
    mask[(rows > FLOOR_TOP) & (np.abs(disparity - floor) < 1.5)] = CONCRETE
    mask[disparity > np.maximum(floor + 1.5, NEAR)] = MOTORCYCLE
    mask[~np.isfinite(disparity)] = UNLABELLED_ID
    return mask


def carry_to_right(mask: Pixels, disparity: npt.NDArray[np.float32]) -> Pixels:
    """Carry a mask of the left stereo view to the right one, (H, W) uint8 each.

    A pixel at (row, col) of the left view lies at (row, col - disparity) of the right one, where
    the nearer of two surfaces hides the other. What only the right camera sees is unlabelled.
    """
    carried = np.full(mask.shape, UNLABELLED_ID, dtype=np.uint8)
    rows, cols = np.nonzero(np.isfinite(disparity) & (mask != UNLABELLED_ID))
    order = np.argsort(disparity[rows, cols], kind="stable")
    rows, cols = rows[order], cols[order]
    targets = np.rint(cols - disparity[rows, cols]).astype(np.int64)
    seen = targets >= 0
    carried[rows[seen], targets[seen]] = mask[rows[seen], cols[seen]]
    return _close_cracks(carried)


def _close_cracks(mask: Pixels) -> Pixels:
    """Fill columns that rounding left empty between two neighbours of one class."""
    closed: Pixels = mask.copy()
    left, middle, right = mask[:, :-2], mask[:, 1:-1], mask[:, 2:]
    crack = (middle == UNLABELLED_ID) & (left == right)
    closed[:, 1:-1][crack] = left[crack]
    return closed


# Coins: one ellipse a coin.

#: Centre (row, col) and half axes (rows, cols) of each coin in pixels.
COIN_ELLIPSES = (
    (44, 335, 28, 30), (51, 155, 23, 24), (51, 215, 22, 24), (52, 276, 19, 21), (54, 44, 20, 22),
    (56, 100, 18, 20), (119, 271, 24, 26), (124, 45, 20, 21), (124, 205, 20, 20), (124, 336, 20, 20),
    (126, 102, 18, 19), (127, 154, 18, 20), (187, 347, 31, 32), (193, 212, 24, 24), (194, 273, 22, 23),
    (196, 102, 21, 22), (197, 44, 19, 18), (198, 154, 19, 20), (260, 46, 28, 28), (261, 172, 26, 28),
    (263, 301, 25, 25), (263, 244, 24, 24), (266, 114, 21, 22), (268, 358, 20, 23),
)  # fmt: skip


def _coins(photos: Path, name: str, *, rows: tuple[int, int]) -> Iterator[Scene]:
    photo = _rgb(photos / "coins.png")
    canvas = Image.new("L", (photo.shape[1], photo.shape[0]), BACKGROUND)
    draw = ImageDraw.Draw(canvas)
    for row, col, half_height, half_width in COIN_ELLIPSES:
        box = (col - half_width, row - half_height, col + half_width, row + half_height)
        draw.ellipse(box, fill=COIN)
    mask = np.asarray(canvas)
    top, bottom = rows
    for number, (left, right) in enumerate(((0, 186), (186, 384)), start=1):
        window = (slice(top, bottom), slice(left, right))
        yield Scene(f"{name}-{number}", photo[window].copy(), mask[window].copy())


# Textures: mosaics of curved regions, each filled with one texture.

TEXTURES = (("brick.png", BRICK), ("grass.png", GRASS), ("gravel.png", GRAVEL))
MOSAIC_SIZE = 448


def _mosaics(photos: Path, name: str, *, half: int, seeds: Sequence[int]) -> Iterator[Scene]:
    """Mosaics from the left (``half`` 0) or the right (1) halves of the textures, one per seed."""
    halves = [(_texture_half(photos / file, half), label) for file, label in TEXTURES]
    for number, seed in enumerate(seeds, start=1):
        generator = np.random.default_rng(seed)
        owner = _regions(generator, len(halves))
        image = np.empty((MOSAIC_SIZE, MOSAIC_SIZE, 3), dtype=np.uint8)
        mask = np.empty((MOSAIC_SIZE, MOSAIC_SIZE), dtype=np.uint8)
        for index, (texture, label) in enumerate(halves):
            top = int(generator.integers(texture.shape[0] - MOSAIC_SIZE + 1))
            here = owner == index
            image[here] = texture[top : top + MOSAIC_SIZE][here]
            mask[here] = label
        yield Scene(f"{name}-{number}", image, mask)


def _texture_half(path: Path, half: int) -> Pixels:
    """Half of a texture's columns, enlarged to (2 * MOSAIC_SIZE, MOSAIC_SIZE, 3)."""
    texture = _rgb(path)
    middle = texture.shape[1] // 2
    columns = texture[:, :middle] if half == 0 else texture[:, middle:]
    enlarged = Image.fromarray(columns).resize((MOSAIC_SIZE, 2 * MOSAIC_SIZE), Image.Resampling.BICUBIC)
    return np.asarray(enlarged)


def _regions(generator: np.random.Generator, count: int) -> npt.NDArray[np.int64]:
    """A map (MOSAIC_SIZE, MOSAIC_SIZE) of region owners 0..count-1: cells of two random sites each."""
    sites = generator.uniform(0.1, 0.9, size=(2 * count, 2)) * MOSAIC_SIZE
    stretch = generator.uniform(0.7, 1.4, size=(2 * count, 1, 1))
    rows, cols = np.indices((MOSAIC_SIZE, MOSAIC_SIZE))
    distance = np.hypot(rows - sites[:, 0, None, None], cols - sites[:, 1, None, None]) * stretch
    owners: npt.NDArray[np.int64] = np.argmin(distance, axis=0) % count
    return owners


# Persons: outlines drawn by hand, points as (row, col).

ASTRONAUT: Points = (
    (16, 232), (20, 258), (36, 283), (60, 298), (88, 301), (118, 288), (136, 272), (134, 268),
    (172, 256), (186, 280), (210, 297), (234, 305), (250, 325), (270, 343), (300, 355), (349, 361),
    (352, 342), (366, 320), (390, 298), (420, 283), (455, 277), (511, 278), (511, 30), (490, 24),
    (440, 20), (400, 20), (340, 30), (300, 38), (270, 52), (245, 70), (225, 92), (206, 114),
    (186, 114), (176, 124), (156, 145), (149, 165), (148, 184), (130, 181), (118, 172), (108, 160),
    (88, 153), (64, 158), (46, 178), (32, 192), (22, 210),
)  # fmt: skip
HELMET: Points = (
    (349, 361), (344, 395), (349, 430), (362, 460), (385, 480), (420, 494), (455, 498), (460, 506),
    (511, 511), (511, 276), (455, 275), (420, 281), (390, 296), (366, 318), (352, 340),
)  # fmt: skip
CAMERAMAN: Points = (
    (106, 160), (90, 170), (78, 182), (66, 200), (69, 220), (76, 240), (95, 257), (109, 269),
    (117, 271), (131, 269), (127, 260), (136, 258), (142, 252), (152, 250), (165, 255), (170, 254),
    (172, 246), (179, 245), (184, 242), (195, 242), (202, 239), (212, 244), (222, 240), (246, 247),
    (230, 262), (220, 261), (210, 270), (204, 280), (210, 292), (195, 297), (186, 305), (180, 319),
    (169, 321), (169, 327), (178, 331), (186, 330), (194, 332), (202, 325), (212, 322), (222, 317),
    (229, 308), (250, 300), (272, 304), (287, 287), (302, 267), (312, 246), (306, 227), (294, 206),
    (320, 190), (352, 172), (384, 146), (440, 148), (511, 152), (511, 0), (240, 0), (222, 18),
    (190, 42), (146, 76), (124, 120), (122, 132), (110, 145), (106, 152),
)  # fmt: skip
#: The tripod's pole, legs, brace and handle: lines of the given width in pixels.
TRIPOD: tuple[tuple[Points, int], ...] = (
    (((205, 294), (490, 294)), 14), (((315, 296), (345, 296)), 34), (((330, 288), (511, 236)), 16),
    (((330, 306), (511, 404)), 14), (((485, 235), (485, 395)), 16), (((325, 305), (302, 336)), 10),
)  # fmt: skip
#: Rows of the cameraman's photo where the field begins; the strip between them is unlabelled.
HORIZON = (228, 246)


def _astronaut(photos: Path) -> Scene:
    photo = _rgb(photos / "astronaut.png")
    steps = [partial(_polygon, ASTRONAUT, PERSON), partial(_polygon, HELMET, UNLABELLED_ID)]
    return Scene("astronaut", photo, _paint(photo, steps))


def _cameraman(photos: Path) -> Scene:
    photo = _rgb(photos / "camera.png")
    height, width = photo.shape[:2]
    steps = [
        partial(_polygon, _band(*HORIZON, width), UNLABELLED_ID),
        partial(_polygon, _band(HORIZON[1], height, width), GRASS),
        *(partial(_line, points, thickness) for points, thickness in TRIPOD),
        partial(_polygon, CAMERAMAN, PERSON),
    ]
    return Scene("cameraman", photo, _paint(photo, steps))


def _band(top: int, bottom: int, width: int) -> Points:
    return ((top, 0), (top, width), (bottom, width), (bottom, 0))


def _paint(photo: Pixels, steps: Sequence[Callable[[Any], None]]) -> Pixels:
    canvas = Image.new("L", (photo.shape[1], photo.shape[0]), BACKGROUND)
    draw = ImageDraw.Draw(canvas)
    for step in steps:
        step(draw)
    return np.asarray(canvas)


def _polygon(points: Points, label: int, draw: Any) -> None:
    draw.polygon([(col, row) for row, col in points], fill=label)


def _line(points: Points, thickness: int, draw: Any) -> None:
    draw.line([(col, row) for row, col in points], fill=UNLABELLED_ID, width=thickness)


def _rgb(path: Path) -> Pixels:
    with Image.open(path) as photo:
        return np.asarray(photo.convert("RGB"))
