"""Makes ``docs/how-it-works.png``: a drawn scene as memory, another one segmented by it.

    python docs/make_picture.py

The scenes are drawn here, so that nobody's photo lies in the repository; what happens to them is the
product's: an index of the first scene with its mask, then the votes and the mask of the second.
"""

from __future__ import annotations

import io
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.patches import ConnectionPatch, Rectangle
from PIL import Image, ImageDraw

from indexer import build_index, load_dataset, load_recipe
from indexer.recipe import Recipe
from segmentation import Segmentation, Segmenter
from segmentation.drawing.overlays import blend

OUT = Path(__file__).parent / "how-it-works.png"
#: (height, width) of a scene, and how many times larger it is drawn, for smooth edges.
SIZE, FINER = (364, 476), 2
#: The patch that is asked about, as (row, col) in the second scene's pixels, and how many votes are shown.
ASKED, SHOWN = (266, 160), 5

SKY, GRASS, ROAD, HOUSE, TREE, CAR = range(6)
CLASSES: tuple[tuple[str, tuple[int, int, int]], ...] = (
    ("sky", (90, 150, 215)),
    ("grass", (140, 200, 70)),
    ("road", (128, 100, 150)),
    ("house", (225, 120, 60)),
    ("tree", (20, 120, 70)),
    ("car", (215, 40, 90)),
)
INK, ACCENT, GROUND = "#e8eaec", "#ffd23f", "#17191c"

Pixels = npt.NDArray[np.uint8]
Points = list[tuple[float, float]]


@dataclass(frozen=True)
class Scene:
    """Where things stand, in units of the scene: x of 0..1 to the right, y of 0..1 downwards."""

    horizon: float
    road: Points
    houses: tuple[tuple[float, float, float, float], ...]
    """left, top of the wall, right, bottom"""
    trees: tuple[tuple[float, float, float], ...]
    """x and y of the foot, height"""
    cars: tuple[tuple[float, float, float, tuple[int, int, int]], ...]
    """x of the middle, y of the wheels, length, colour"""
    clouds: tuple[tuple[float, float], ...]
    light: float
    seed: int


MEMORY = Scene(
    horizon=0.52,
    road=[(0.56, 0.52), (0.62, 0.52), (0.98, 1.0), (0.30, 1.0)],
    houses=((0.07, 0.33, 0.34, 0.62), (0.76, 0.38, 0.96, 0.59)),
    trees=((0.45, 0.66, 0.46), (0.90, 0.78, 0.52)),
    cars=((0.60, 0.83, 0.25, (190, 45, 40)),),
    clouds=((0.22, 0.14), (0.70, 0.20)),
    light=1.0,
    seed=1,
)
QUERY = Scene(
    horizon=0.46,
    road=[(0.38, 0.46), (0.43, 0.46), (0.72, 1.0), (0.02, 1.0)],
    houses=((0.58, 0.24, 0.90, 0.60),),
    trees=((0.20, 0.66, 0.56), (0.50, 0.56, 0.30)),
    cars=((0.38, 0.80, 0.23, (45, 85, 165)),),
    clouds=((0.10, 0.10), (0.47, 0.16)),
    light=0.93,
    seed=2,
)


class Canvas:
    """A photo and its mask, painted together."""

    def __init__(self) -> None:
        self.height, self.width = (FINER * side for side in SIZE)
        self._photo = Image.new("RGB", (self.width, self.height))
        self._mask = Image.new("L", (self.width, self.height))

    def polygon(self, points: Points, color: tuple[int, int, int], label: int | None) -> None:
        """Fill a polygon; without a label the mask stays as it is there."""
        corners = [(x * self.width, y * self.height) for x, y in points]
        ImageDraw.Draw(self._photo).polygon(corners, fill=color)
        if label is not None:
            ImageDraw.Draw(self._mask).polygon(corners, fill=label)

    def box(
        self, left: float, top: float, right: float, bottom: float, color: tuple[int, int, int], label: Any
    ) -> None:
        """Fill a rectangle."""
        self.polygon([(left, top), (right, top), (right, bottom), (left, bottom)], color, label)

    def disc(self, x: float, y: float, radius: float, color: tuple[int, int, int], label: Any) -> None:
        """Fill a circle; ``radius`` in units of the width."""
        turns = np.linspace(0, 2 * np.pi, 48, endpoint=False)
        aspect = self.width / self.height
        outline = [(x + radius * np.cos(t), y + radius * aspect * np.sin(t)) for t in turns]
        self.polygon(outline, color, label)

    def arrays(self) -> tuple[npt.NDArray[np.float32], Pixels]:
        """The photo (H, W, 3) and the mask (H, W) of class ids, at the finer size."""
        return np.asarray(self._photo, dtype=np.float32), np.asarray(self._mask)


def draw_scene(scene: Scene) -> tuple[Pixels, Pixels]:
    """The scene's photo (H, W, 3) and its mask (H, W) of class ids."""
    generator = np.random.default_rng(scene.seed)
    canvas = Canvas()
    canvas.box(0, 0, 1, 1, (126, 172, 216), SKY)
    for x, y in scene.clouds:
        _draw_cloud(canvas, generator, x, y)
    canvas.box(0, scene.horizon, 1, 1, (106, 142, 66), GRASS)
    canvas.polygon(scene.road, (112, 112, 116), ROAD)
    _draw_dashes(canvas, scene.road)
    for house in scene.houses:
        _draw_house(canvas, *house)
    for x, y, height in sorted(scene.trees, key=lambda tree: tree[1]):
        _draw_tree(canvas, generator, x, y, height)
    for x, y, length, color in scene.cars:
        _draw_car(canvas, x, y, length, color)
    photo, mask = canvas.arrays()
    photo = np.clip(photo * _texture(generator, mask)[:, :, None] * scene.light, 0, 255)
    small = cv2.resize(photo, SIZE[::-1], interpolation=cv2.INTER_AREA)
    grain = generator.normal(0, 2.5, (*SIZE, 1))
    return np.clip(small + grain, 0, 255).astype(np.uint8), mask[::FINER, ::FINER].copy()


def _draw_dashes(canvas: Canvas, road: Points) -> None:
    (left, top), (right, _), (near_right, bottom), (near_left, _) = road
    far, near = (left + right) / 2, (near_left + near_right) / 2
    for start in np.linspace(0.1, 1, 7) ** 2:
        end = start * 1.22
        (x0, y0), (x1, y1) = ((far + (near - far) * t, top + (bottom - top) * t) for t in (start, end))
        w0, w1 = 0.013 * start, 0.013 * end
        canvas.polygon([(x0 - w0, y0), (x0 + w0, y0), (x1 + w1, y1), (x1 - w1, y1)], (226, 222, 205), None)


def _draw_cloud(canvas: Canvas, generator: np.random.Generator, x: float, y: float) -> None:
    for step in np.linspace(-1, 1, 15):
        radius = 0.035 * (1.15 - step**2) * generator.uniform(0.7, 1.3)
        canvas.disc(x + 0.13 * step, y + generator.uniform(-0.02, 0.01), radius, (226, 234, 242), SKY)


def _draw_house(canvas: Canvas, left: float, top: float, right: float, bottom: float) -> None:
    width, height = right - left, bottom - top
    canvas.box(left, top, right, bottom, (206, 176, 138), HOUSE)
    for row in np.arange(top, bottom, 0.016):  # courses of bricks
        canvas.box(left, row, right, row + 0.003, (170, 138, 104), HOUSE)
    eaves, ridge = 0.09 * width, 0.5 * height
    roof = [
        (left - eaves, top),
        (left + 0.22 * width, top - ridge),
        (right - 0.22 * width, top - ridge),
        (right + eaves, top),
    ]
    canvas.polygon(roof, (150, 72, 52), HOUSE)
    for share in (0.25, 0.5, 0.75):  # rows of tiles
        inset = eaves - share * (eaves + 0.22 * width)
        row = top - ridge * share
        canvas.box(left - inset, row, right + inset, row + 0.004, (118, 54, 40), None)
    for column in (0.12, 0.66):
        x, y, wide, high = left + column * width, top + 0.16 * height, 0.22 * width, 0.3 * height
        canvas.box(x - 0.008, y - 0.008, x + wide + 0.008, y + high + 0.008, (238, 234, 224), HOUSE)
        canvas.box(x, y, x + wide, y + high, (74, 92, 112), HOUSE)
        canvas.box(x + 0.47 * wide, y, x + 0.53 * wide, y + high, (238, 234, 224), HOUSE)
    canvas.box(left + 0.42 * width, bottom - 0.5 * height, left + 0.58 * width, bottom, (92, 62, 48), HOUSE)


def _draw_tree(canvas: Canvas, generator: np.random.Generator, x: float, y: float, height: float) -> None:
    trunk = 0.035 * height
    canvas.polygon(
        [
            (x - trunk, y),
            (x - trunk / 2, y - height * 0.5),
            (x + trunk / 2, y - height * 0.5),
            (x + trunk, y),
        ],
        (92, 70, 50),
        TREE,
    )
    for level in np.linspace(0, 1, 34):
        spread = 0.20 * height * np.sin(np.pi * (0.12 + 0.80 * level))
        shade = int(14 * generator.standard_normal() + 18 * level)
        middle = x + generator.uniform(-1, 1) * spread
        foot = y - height * (0.34 + 0.56 * level) + generator.uniform(-0.02, 0.02)
        canvas.disc(middle, foot, 0.085 * height, (44 + shade, 92 + shade, 42 + shade // 2), TREE)


def _draw_car(canvas: Canvas, x: float, y: float, length: float, color: tuple[int, int, int]) -> None:
    half, unit = length / 2, length * 0.22
    dark = (color[0] * 2 // 3, color[1] * 2 // 3, color[2] * 2 // 3)
    cabin = ((-0.62, -1.45), (-0.36, -2.5), (0.38, -2.5), (0.72, -1.45))
    canvas.polygon([(x + half * a, y + unit * b) for a, b in cabin], color, CAR)
    for left, right in ((-0.48, -0.02), (0.06, 0.52)):
        lean = 0.12
        glass = [(left, -1.5), (left + lean, -2.3), (right - lean * (right > 0.2), -2.3), (right, -1.5)]
        canvas.polygon([(x + half * a, y + unit * b) for a, b in glass], (178, 202, 214), CAR)
    canvas.box(x - half, y - 1.5 * unit, x + half, y - 0.45 * unit, color, CAR)
    canvas.box(x - half, y - 0.75 * unit, x + half, y - 0.45 * unit, dark, CAR)
    canvas.box(x + half * 0.86, y - 1.3 * unit, x + half, y - 1.0 * unit, (250, 240, 190), CAR)
    for side in (-0.56, 0.58):
        canvas.disc(x + side * half, y - 0.3 * unit, 0.088 * length, (32, 32, 36), CAR)
        canvas.disc(x + side * half, y - 0.3 * unit, 0.042 * length, (176, 178, 182), CAR)


def _texture(generator: np.random.Generator, mask: Pixels) -> npt.NDArray[np.float32]:
    """Brightness (H, W) around 1: each class has noise of its own grain (rows, cols) and strength."""
    grains = {
        SKY: ((60, 160), 0.03),
        GRASS: ((7, 3), 0.22),
        ROAD: ((3, 4), 0.10),
        HOUSE: ((5, 14), 0.10),
        TREE: ((7, 7), 0.34),
        CAR: ((24, 40), 0.10),
    }
    brightness = np.ones(mask.shape, dtype=np.float32)
    for label, ((rows, cols), strength) in grains.items():
        coarse = generator.standard_normal((mask.shape[0] // rows + 2, mask.shape[1] // cols + 2))
        noise = cv2.resize(coarse, mask.shape[::-1], interpolation=cv2.INTER_CUBIC)
        here = mask == label
        brightness[here] += (strength * np.clip(noise, -1.5, 1.5))[here]
    return brightness


def write_memory(folder: Path, photo: Pixels, mask: Pixels) -> None:
    """Write the labelled scene as a data set: a plain folder."""
    for name, array in (("images", photo), ("masks", mask)):
        (folder / name).mkdir(parents=True)
        Image.fromarray(array).save(folder / name / "memory.png")
    classes = [{"id": id, "name": name, "color": color} for id, (name, color) in enumerate(CLASSES)]
    (folder / "classes.json").write_text(json.dumps({"classes": classes}))


def make_picture(out: Path, recipe: Recipe) -> Path:
    """Build, segment, explain and draw; returns ``out``."""
    memory, labels = draw_scene(MEMORY)
    query, _ = draw_scene(QUERY)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_memory(folder / "data", memory, labels)
        build_index(load_dataset(folder / "data"), folder / "memory.index", recipe=recipe)
        with Segmenter.open(folder / "memory.index") as segmenter:
            result = segmenter.segment(query)
            figure = _compose(memory, labels, query, result, segmenter)
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", facecolor=GROUND)
    # 256 colours of its own: a third of the bytes, and no difference at the size of a page
    picture = Image.open(drawn).convert("RGB").quantize(256, kmeans=2, dither=Image.Dither.NONE)
    picture.save(out, optimize=True)
    return out


def _compose(
    memory: Pixels, labels: Pixels, query: Pixels, result: Segmentation, segmenter: Segmenter
) -> Figure:
    figure = Figure(figsize=(12.6, 4.6), dpi=100)
    grid = figure.add_gridspec(1, 3, left=0.008, right=0.992, top=0.90, bottom=0.20, wspace=0.035)
    axes = [figure.add_subplot(cell) for cell in grid]
    shown = (blend(memory, labels, segmenter.classes, alpha=0.42), query)
    titles = (
        "1  memory: photo and labels",
        "2  new photo: which patches look alike?",
        "3  mask: their labels, carried over",
    )
    painted = blend(query, result.mask, segmenter.classes, alpha=0.62)
    for axis, picture, title in zip(axes, (*shown, painted), titles, strict=True):
        axis.imshow(picture, interpolation="lanczos")
        axis.set_title(title, color=INK, fontsize=14, pad=8, loc="left")
        axis.set_axis_off()
    votes = result.explain(*ASKED)[:SHOWN]
    box = result.grid.patch_box(*result.patch_at(*ASKED))
    _mark(axes[1], box, width=2.6)
    for vote in votes:
        _mark(axes[0], vote.box, width=1.8)
        line = ConnectionPatch(
            _middle(vote.box), _middle(box), "data", "data", axesA=axes[0], axesB=axes[1],
            color=ACCENT, linewidth=1.3, alpha=0.85,
        )  # fmt: skip
        figure.add_artist(line)
    _add_insets(figure, memory, query, box, votes)
    _add_legend(figure, result.mask)
    return figure


def _mark(axis: Any, box: tuple[float, float, float, float], *, width: float) -> None:
    top, left, bottom, right = box
    for color, line in (("black", width + 2), (ACCENT, width)):
        axis.add_patch(
            Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor=color, linewidth=line)
        )


def _middle(box: tuple[float, float, float, float]) -> tuple[float, float]:
    """(x, y) of a box's middle."""
    top, left, bottom, right = box
    return (left + right) / 2, (top + bottom) / 2


def _add_insets(
    figure: Figure, memory: Pixels, query: Pixels, box: tuple[float, float, float, float], votes: list[Any]
) -> None:
    """The asked patch and its nearest memory patches, enlarged, each with what it votes for."""
    crops = [(query, box, "asked")]
    crops += [(memory, vote.box, f"{next(iter(vote.label))} {vote.similarity:.2f}") for vote in votes]
    for number, (photo, place, text) in enumerate(crops):
        left = 0.026 + 0.097 * number + (0.03 if number else 0)
        axis = figure.add_axes((left, 0.075, 0.085, 0.105))
        col, row = _middle(place)
        axis.imshow(photo, interpolation="lanczos")
        axis.set_xlim(col - 47, col + 47)
        axis.set_ylim(row + 20, row - 20)
        _mark(axis, place, width=1.6)
        axis.set_xticks([])
        axis.set_yticks([])
        figure.text(left + 0.0425, 0.032, text, color=INK, fontsize=12, ha="center", va="center")
    figure.text(0.131, 0.125, "≈", color=ACCENT, fontsize=26, ha="center", va="center")


def _add_legend(figure: Figure, mask: npt.NDArray[Any]) -> None:
    for number, (name, color) in enumerate(CLASSES):
        x, y = 0.682 + 0.107 * (number % 3), 0.125 - 0.075 * (number // 3)
        swatch = Rectangle((x, y - 0.022), 0.0155, 0.045, transform=figure.transFigure)
        swatch.set_facecolor(tuple(channel / 255 for channel in color))
        figure.add_artist(swatch)
        share = 100 * float(np.mean(mask == number))
        figure.text(x + 0.022, y, f"{name} {share:.0f} %", color=INK, fontsize=12, va="center")


if __name__ == "__main__":
    print(make_picture(OUT, load_recipe("offline.yaml", ["index.engine=exact", "bank.max_patches=null"])))
