"""Files that name classes, whichever tool wrote them, beside a plain folder and beside VOC's folders."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from indexer.datasets import Dataset, load_dataset
from indexer.datasets.class_lists import read_named_classes
from indexer.datasets.masks import color_of_id
from retrieval.errors import DatasetError, MaskError

BLACK, ROAD, CAR = (0, 0, 0), (250, 50, 83), (61, 61, 245)
ROW = np.array([[0, 1, 2], [0, 1, 2]], dtype=np.uint8)
LABELMAP = (
    "# label:color_rgb:parts:actions\nbackground:0,0,0::\nroad:250,50,83::\ncar:61,61,245:wheel,door:drive\n"
)
CVAT = [
    {"name": "road", "id": 4711, "color": "#fa3253", "type": "any", "attributes": []},
    {"name": "car", "id": 4712, "color": "#3d3df5", "type": "any", "attributes": []},
]
META = {
    "labels": ["background", "road", "car"],
    "label_map": {"0": "background", "1": "road", "2": "car"},
    "segmentation_colors": [list(BLACK), list(ROAD), list(CAR)],
}
CONFIG = """<View><Image name="i" value="$i"/><BrushLabels name="t" toName="i">
<Label value="road" background="#fa3253"/><Label value="car" background="#3D3DF5"/></BrushLabels></View>"""

#: Each names background, road and car, in this order, with these colours.
COLORED = {
    "labelmap.txt": LABELMAP,
    "dataset_meta.json": json.dumps(META),
    "label_config.xml": CONFIG,
    "classes.json": json.dumps(CVAT),
}


def mask(kind: str) -> Image.Image:
    image = Image.fromarray(ROW)
    if kind == "index":
        return image
    colors = (BLACK, ROAD, CAR) if kind != "swapped palette" else (CAR, BLACK, ROAD)
    if kind == "swapped palette":
        image = Image.fromarray((ROW + 1) % 3)
    image.putpalette([channel for color in colors for channel in color])
    return image if "palette" in kind else image.convert("RGB")


def voc(root: Path, *masks: Image.Image) -> Path:
    """JPEGImages, SegmentationClass and the list default.txt, as CVAT and Datumaro write them."""
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    for number, image in enumerate(masks):
        Image.new("RGB", image.size).save(root / "JPEGImages" / f"{number}.jpg")
        image.save(root / "SegmentationClass" / f"{number}.png")
    ids = "".join(f"{number}\n" for number in range(len(masks)))
    (root / "ImageSets/Segmentation/default.txt").write_text(ids)
    return root


def plain(root: Path, *masks: Image.Image) -> Path:
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for number, image in enumerate(masks):
        Image.new("RGB", image.size).save(root / "images" / f"{number}.png")
        image.save(root / "masks" / f"{number}.png")
    return root


def rows(dataset: Dataset) -> list[list[int]]:
    return [dataset.read(sample)[1][0].tolist() for sample in dataset.samples]


@pytest.mark.parametrize("layout", [voc, plain])
@pytest.mark.parametrize("kind", ["RGB", "index", "palette", "swapped palette"])
@pytest.mark.parametrize("file", COLORED)
def test_classes_with_colours(tmp_path: Path, layout: object, kind: str, file: str) -> None:
    root = layout(tmp_path / "data", mask(kind))  # type: ignore[operator]
    (root / file).write_text(COLORED[file])
    dataset = load_dataset(root)
    assert dataset.classes.names == ("background", "road", "car")
    assert [info.color for info in dataset.classes.classes] == [BLACK, ROAD, CAR]
    assert dataset.classes.ignore == (255,)
    assert rows(dataset) == [[0, 1, 2]]


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("class_names.txt", "__ignore__\n_background_\nroad\ncar\n"),
        ("class_names.txt", "_background_\r\nroad\r\ncar"),
        ("labelmap.txt", "_background_:::\nroad:::\ncar:::\n"),
        ("classes.json", '["_background_", "road", "car"]'),
    ],
)
def test_classes_without_colours(tmp_path: Path, file: str, text: str) -> None:
    image = Image.fromarray(ROW)
    palette = Image.fromarray(np.array([[0, 1, 255]] * 2, np.uint8))
    palette.putpalette([channel for id in range(256) for channel in color_of_id(id)])
    root = voc(tmp_path / "data", image, palette)
    (root / file).write_text(text)
    dataset = load_dataset(root)
    assert dataset.classes.names == ("_background_", "road", "car")
    assert rows(dataset) == [[0, 1, 2], [0, 1, -1]]


def test_order_of_the_label_map_counts(tmp_path: Path) -> None:
    root = voc(tmp_path / "data", mask("index"))
    (root / "labelmap.txt").write_text("car:61,61,245::\nbackground:0,0,0::\nroad:250,50,83::\n")
    dataset = load_dataset(root)
    assert [dataset.classes.names[column] for column in rows(dataset)[0]] == ["car", "background", "road"]


def test_border_that_datumaro_lists(tmp_path: Path) -> None:
    root = voc(tmp_path / "data", Image.new("RGB", (3, 2), (224, 224, 192)), mask("index"))
    (root / "labelmap.txt").write_text(LABELMAP + "ignored:224,224,192::\n")
    assert load_dataset(root).classes.names == ("background", "road", "car")
    assert rows(load_dataset(root)) == [[-1, -1, -1], [0, 1, 2]]


def test_our_own_file_comes_first(tmp_path: Path) -> None:
    root = voc(tmp_path / "data", mask("RGB"))
    (root / "labelmap.txt").write_text(LABELMAP)
    (root / "classes.json").write_text(
        json.dumps({"names": ["a", "b", "c"], "colors": [list(BLACK), list(ROAD), list(CAR)]})
    )
    assert load_dataset(root).classes.names == ("a", "b", "c")


@pytest.mark.parametrize("kind", ["RGB", "palette", "index above 20"])
def test_voc_folder_that_is_not_of_voc(tmp_path: Path, kind: str) -> None:
    image = mask(kind) if kind != "index above 20" else Image.fromarray(ROW + 20)
    dataset = load_dataset(voc(tmp_path / "data", image))
    problem = r"0\.png.*not Pascal VOC's, name them in .*data in one of classes\.json, labelmap\.txt"
    with pytest.raises(MaskError, match=problem):
        rows(dataset)


@pytest.mark.parametrize("grey", [False, True])
def test_voc_with_other_palettes_that_say_nothing(tmp_path: Path, grey: bool) -> None:
    image = Image.fromarray(ROW)
    if grey:
        image.putpalette([channel for value in range(0, 256, 5) for channel in (value,) * 3])
    assert rows(load_dataset(voc(tmp_path / "data", image))) == [[0, 1, 2]]


@pytest.mark.parametrize(
    ("data", "names", "colors"),
    [
        ({"road": [250, 50, 83]}, ("background", "road"), (BLACK, ROAD)),
        ({"void": "#000000", "road": "#fa3253"}, ("void", "road"), (BLACK, ROAD)),
        ({"Background": [9, 9, 9], "road": [250, 50, 83]}, ("Background", "road"), ((9, 9, 9), ROAD)),
        (["sky", "road"], ("sky", "road"), ((0, 0, 0), (128, 0, 0))),
        ([{"id": 1, "name": "x", "color": [1, 2, 3]}], ("x",), ((1, 2, 3),)),
        ({"names": ["x"], "colors": ["#010203"]}, ("x",), ((1, 2, 3),)),
    ],
)
def test_forms_of_the_class_file(
    tmp_path: Path, data: object, names: tuple[str, ...], colors: tuple[object, ...]
) -> None:
    root = plain(tmp_path / "data", Image.new("L", (3, 2)))
    (root / "classes.json").write_text(json.dumps(data))
    classes = load_dataset(root).classes
    assert classes.names == names
    assert tuple(info.color for info in classes.classes) == colors


def test_all_faults_at_once(tmp_path: Path) -> None:
    root = plain(tmp_path / "data", Image.new("L", (3, 2)))
    classes = [{"id": "0", "name": "x"}, {"id": 1, "name": ""}, {"id": 2, "nam": "y"}, "z"]
    (root / "classes.json").write_text(json.dumps({"classes": classes, "ignored": 3, "ignore": "void"}))
    with pytest.raises(DatasetError) as caught:
        load_dataset(root)
    for word in ("'ignored'", "id '0'", "name ''", "number 2 must", "number 3 must", "'void'", "example: {"):
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("file", "text", "problem"),
    [
        ("labelmap.txt", "road;250,50,83", r"labelmap\.txt, line 1: expected a class as name:red,green,blue"),
        ("labelmap.txt", "a:1,2,3::\nroad:250,50::\n", r"line 2: expected a class"),
        ("labelmap.txt", "a:1,2,3::\na:4,5,6::\n", "two classes have the name 'a'"),
        ("labelmap.txt", "# nothing\n", "names no class"),
        ("dataset_meta.json", "[1]", "cannot be read as"),
        ("label_config.xml", "<View>", "Label Studio"),
        ("label_config.xml", "<View/>", "names no class"),
        ("class_names.txt", "\n", "names no class"),
    ],
)
def test_files_that_make_no_sense(tmp_path: Path, file: str, text: str, problem: str) -> None:
    root = voc(tmp_path / "data", mask("index"))
    (root / file).write_text(text)
    with pytest.raises(DatasetError, match=problem):
        load_dataset(root)


def test_numbers_of_a_label_map_are_the_ids(tmp_path: Path) -> None:
    (tmp_path / "dataset_meta.json").write_text('{"label_map": {"2": "car", "0": "rest", "1": "road"}}')
    named = read_named_classes(tmp_path)
    assert named is not None and named.classes.names == ("rest", "road", "car")
    (tmp_path / "dataset_meta.json").write_text('{"label_map": {"1": "road", "2": "car"}}')
    with pytest.raises(DatasetError, match="number them from 0"):
        read_named_classes(tmp_path)


def test_cvat_s_labels_without_colours_have_a_background(tmp_path: Path) -> None:
    labels = [{"name": "road", "attributes": []}, {"name": "car", "attributes": []}]
    (tmp_path / "classes.json").write_text(json.dumps(labels))
    named = read_named_classes(tmp_path)
    assert named is not None and named.classes.names == ("background", "road", "car")
