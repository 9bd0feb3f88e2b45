"""Classes that nobody named: what is taken for classes, for noise, for unlabelled."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from indexer.datasets import load_dataset
from indexer.datasets.found import found_colors
from retrieval.errors import DatasetError, MaskError

ODD = Path(__file__).parents[3].parent / "shared" / "data" / "odd"


def put(root: Path, *masks: Image.Image | np.ndarray) -> Path:
    """A plain folder of the given masks."""
    for number, mask in enumerate(masks):
        image = mask if isinstance(mask, Image.Image) else Image.fromarray(mask.astype(np.uint8))
        for part, picture in (("images", Image.new("RGB", image.size)), ("masks", image)):
            (root / part).mkdir(exist_ok=True, parents=True)
            picture.save(root / part / f"{number}.png")
    return root


def drawing(size: int = 120, *, values: tuple[int, ...] = (255,)) -> Image.Image:
    """Discs of the given values on 0."""
    mask = Image.new("L", (size, size))
    for number, value in enumerate(values):
        x, y = size * (number % 3) / 3, size * (number // 3 % 3) / 3
        ImageDraw.Draw(mask).ellipse((x + 3, y + 3, x + size / 3 - 3, y + size / 3 - 3), fill=value)
    return mask


def once_a_jpeg(mask: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    mask.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("L")


def noisy() -> dict[str, Image.Image]:
    coloured = Image.merge("RGB", [drawing(), drawing(values=(120, 255)), drawing(values=(50,))])
    return {
        "jpeg 75": once_a_jpeg(drawing(), 75),
        "jpeg 95": once_a_jpeg(drawing(), 95),
        "jpeg of three greys": once_a_jpeg(drawing(values=(80, 160, 240)), 90),
        "bilinear": drawing().resize((400, 400), Image.Resampling.BILINEAR),
        "bicubic, smaller": drawing(900).resize((200, 200), Image.Resampling.BICUBIC),
        "blurred": drawing(400).filter(ImageFilter.GaussianBlur(2)),
        "tiny": drawing(28).resize((56, 56), Image.Resampling.BICUBIC),
        "quantised": coloured.resize((300, 300), Image.Resampling.BICUBIC).quantize(64),
    }


@pytest.mark.parametrize("kind", noisy())
def test_noise_is_refused(tmp_path: Path, kind: str) -> None:
    put(tmp_path, noisy()[kind])
    with pytest.raises(
        DatasetError, match=r"hold \d+ values, \d+ of them scattered .* threshold them"
    ) as caught:
        load_dataset(tmp_path)
    assert "nearest" in str(caught.value) and "classes.json" in str(caught.value)


def genuine() -> dict[str, list[np.ndarray]]:
    random = np.random.default_rng(0)
    blocks = [np.kron(random.integers(0, 150, (12, 12)), np.ones((7, 7))) for _ in range(20)]
    rare = np.zeros((200, 200))
    rare[::4, ::4] = random.integers(1, 4, (50, 50))  # dots of three classes
    small = np.zeros((100, 100))
    for id in range(1, 31):
        row, col = divmod(id, 6)
        small[row * 15 : row * 15 + 2, col * 15 : col * 15 + 2] = id
    lines = np.zeros((100, 100))
    for id in range(1, 10):
        lines[id * 10] = id  # the layers of a retina
    first = np.zeros((84, 84))
    first[0, :34] = range(34)
    return {
        "150 classes": blocks,
        "150 classes, pixel by pixel": [random.integers(0, 150, (90, 90))],
        "ids 0..33": [np.kron(random.integers(0, 34, (6, 6)), np.ones((14, 14)))],
        "sparse ids": [np.kron(random.choice([0, 7, 19, 64, 128, 200], (6, 6)), np.ones((14, 14)))],
        "dots": [rare],
        "thirty small objects": [small],
        "nine thin lines": [lines],
        "every id once": [first],
    }


@pytest.mark.parametrize("kind", genuine())
def test_many_classes_are_classes(tmp_path: Path, kind: str) -> None:
    masks = genuine()[kind]
    put(tmp_path, *masks)
    assert load_dataset(tmp_path).classes.ids.tolist() == sorted(
        {int(v) for m in masks for v in np.unique(m)}
    )


def test_noise_is_classes_where_they_are_named(tmp_path: Path) -> None:
    mask = once_a_jpeg(drawing(), 75)
    put(tmp_path, mask)
    ids = np.unique(np.array(mask)).tolist()
    classes = [{"id": id, "name": f"grey {id}"} for id in ids]
    (tmp_path / "classes.json").write_text(json.dumps({"classes": classes}))
    assert len(load_dataset(tmp_path).classes) == len(ids)


def halves(left: int, right: int, top: int = 0) -> np.ndarray:
    mask = np.full((84, 84), right)
    mask[:, :42] = left
    mask[:28] = top
    return mask


@pytest.mark.parametrize("thin", [False, True])
def test_one_class_in_two_ways(tmp_path: Path, thin: bool) -> None:
    white, one = (halves(255, 0), halves(0, 1)) if not thin else (np.zeros((84, 84)), np.zeros((84, 84)))
    if thin:
        white[40], one[40] = 255, 1
    put(tmp_path, white, one)
    with pytest.raises(DatasetError, match=r"0\.png holds 0 and 255, and mask .*1\.png holds 0 and 1"):
        load_dataset(tmp_path)


@pytest.mark.parametrize(
    "mask",
    [halves(128, 255), halves(1, 255), halves(7, 255), halves(85, 255, 170), halves(2, 255, 1)],
    ids=["0 128 255", "0 1 255", "0 7 255", "85 170 255", "1 2 255"],
)
def test_areas_of_255_are_refused(tmp_path: Path, mask: np.ndarray) -> None:
    put(tmp_path, mask)
    problem = (
        r"covers 33\.3% of the pixels, and not as a thin border .*list 255 as a class in .*classes\.json"
    )
    with pytest.raises(DatasetError, match=problem):
        load_dataset(tmp_path)
    ids = sorted({*np.unique(mask).tolist(), 0} - {255})
    classes = [{"id": int(id), "name": f"c{id}"} for id in ids]
    (tmp_path / "classes.json").write_text(json.dumps({"classes": classes, "ignore": [255]}))
    assert load_dataset(tmp_path).classes.ignore == (255,)


def test_white_lines_of_a_grey_picture(tmp_path: Path) -> None:
    mask = halves(128, 0)
    mask[60] = 255
    put(tmp_path, mask)
    with pytest.raises(DatasetError, match="255 would mean unlabelled"):
        load_dataset(tmp_path)


def test_thin_borders_and_some_void_stay_unlabelled(tmp_path: Path) -> None:
    mask = halves(1, 0)
    mask[:, 40:43] = 255
    put(tmp_path, mask)
    assert load_dataset(tmp_path).classes.ids.tolist() == [0, 1]
    mask = halves(1, 2)
    mask[:10] = 255  # 12 % beside three classes in a row
    put(tmp_path, mask)
    assert load_dataset(tmp_path).classes.ids.tolist() == [0, 1, 2]


def test_background_alone(tmp_path: Path) -> None:
    put(tmp_path, np.zeros((9, 9)), np.zeros((9, 9)))
    dataset = load_dataset(tmp_path)
    assert dataset.found and dataset.classes.ids.tolist() == [0]


@pytest.mark.parametrize(
    ("masks", "refused"),
    [
        ([halves(255, 0)], True),
        ([halves(255, 0), halves(1, 0)], True),
        ([halves(255, 1)], False),
        ([halves(0, 0)], False),
    ],
)
def test_255_beside_named_classes(tmp_path: Path, masks: list[np.ndarray], refused: bool) -> None:
    put(tmp_path, *masks)
    named = {"names": ["rest", "defect"]}
    (tmp_path / "classes.json").write_text(json.dumps(named))
    if refused:
        with pytest.raises(
            DatasetError, match=r"0\.png holds 0 and 255, but 255 is no class of .*classes\.json"
        ):
            load_dataset(tmp_path)
    else:
        load_dataset(tmp_path)
    (tmp_path / "classes.json").write_text(json.dumps({**named, "ignore": [255]}))  # always obeyed
    dataset = load_dataset(tmp_path)
    assert dataset.read_mask(dataset.samples[0]).max() <= 1


def test_rgb_masks_without_a_list(tmp_path: Path) -> None:
    pixels = np.zeros((10, 10, 3))
    pixels[:3], pixels[9] = (250, 50, 83), (61, 61, 245)
    put(tmp_path, pixels)
    assert found_colors(sorted((tmp_path / "masks").iterdir())) == [
        ((0, 0, 0), 0.6),
        ((250, 50, 83), 0.3),
        ((61, 61, 245), 0.1),
    ]
    with pytest.raises(DatasetError) as caught:
        load_dataset(tmp_path)
    for word in ("0.png holds RGB colours", "(0, 0, 0) 60.0%, (250, 50, 83) 30.0%", "--write"):
        assert word in str(caught.value)


def test_colours_of_palettes(tmp_path: Path) -> None:
    mask = Image.fromarray(np.array([[0, 1, 1, 1]], np.uint8))
    mask.putpalette([9, 9, 9, 1, 2, 3])
    put(tmp_path, mask, np.zeros((2, 2)))
    (tmp_path / "masks" / "2.png").write_bytes(b"broken")
    assert found_colors(sorted((tmp_path / "masks").iterdir())) == [((1, 2, 3), 0.75), ((9, 9, 9), 0.25)]


def test_a_jpeg_is_not_to_be_saved_as_png(tmp_path: Path) -> None:
    put(tmp_path, np.zeros((9, 9)))
    Image.new("L", (9, 9)).save(tmp_path / "masks" / "0.jpg")
    (tmp_path / "masks" / "0.png").unlink()
    with pytest.raises(MaskError, match=r"where it was drawn .*saved as PNG keeps the damage"):
        load_dataset(tmp_path)


@pytest.mark.parametrize("folder", ["05_soft_edges", "06_01_and_0255"])
def test_shared_inputs(folder: str) -> None:
    if not ODD.is_dir():
        pytest.skip("the odd inputs are not on this machine")
    with pytest.raises(DatasetError, match=r"classes\.json"):
        load_dataset(ODD / folder)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("classes.json", '{"road": [250, 50, 83]}'),
        ("labelmap.txt", "background:0,0,0::\nroad:255,0,0::\n"),
        ("classes.json", '["rest", "road"]'),
    ],
)
def test_a_palette_that_says_nothing_hides_no_white(tmp_path: Path, name: str, text: str) -> None:
    put(tmp_path, Image.fromarray(halves(255, 0).astype(np.uint8)).convert("P"))
    (tmp_path / name).write_text(text)
    with pytest.raises(DatasetError, match="255 is no class"):
        load_dataset(tmp_path)


def test_white_in_a_voc_folder_without_names(tmp_path: Path) -> None:
    put(tmp_path, halves(255, 0))
    (tmp_path / "images").rename(tmp_path / "JPEGImages")
    (tmp_path / "masks").rename(tmp_path / "SegmentationClass")
    (tmp_path / "ImageSets" / "Segmentation").mkdir(parents=True)
    (tmp_path / "ImageSets" / "Segmentation" / "train.txt").write_text("0\n")
    with pytest.raises(DatasetError, match="255 is no class"):
        load_dataset(tmp_path, split="train")


@pytest.mark.parametrize("value", [-1, 2**31 - 1])
def test_values_that_are_no_ids_beside_names(tmp_path: Path, value: int) -> None:
    put(tmp_path, halves(1, 0))
    (tmp_path / "masks" / "0.png").unlink()
    pixels = halves(1, 0).astype(np.int32)
    pixels[0] = value
    Image.fromarray(pixels).save(tmp_path / "masks" / "0.tif")
    (tmp_path / "classes.json").write_text('["rest", "road"]')
    dataset = load_dataset(tmp_path)
    with pytest.raises(MaskError, match=r"0\.tif"):
        dataset.read_mask(dataset.samples[0])


def test_smoothed_thin_lines_are_noise(tmp_path: Path) -> None:
    mask = np.zeros((128, 128))
    for row in (30, 70):
        for offset, value in ((-1, 64), (0, 255), (1, 255), (2, 128)):
            mask[row + offset] = value
    put(tmp_path, mask)
    with pytest.raises(DatasetError, match="scattered"):
        load_dataset(tmp_path)
