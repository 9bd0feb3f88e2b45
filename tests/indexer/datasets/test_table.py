"""Tables of image paths and labels: columns, splits, encodings, and every error with its line."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from indexer.datasets import ClassLabels, load_dataset, whole_columns
from indexer.datasets.table_file import _cells
from retrieval.errors import DatasetError, ImageError

TEXTS = Path(__file__).parents[3].parent / "shared" / "data" / "banking77"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("a", "b", "images/c"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (3, 2)).save(tmp_path / f"{name}.jpg")
    return tmp_path


def test_splits_share_their_classes(root: Path) -> None:
    (root / "train.csv").write_text("label,path\nc10,a.jpg\nc2,c.jpg\n")
    (root / "val.tsv").write_text("filename\tlabels\nb.jpg\tc3;c2\n")
    train, val = (load_dataset(root, split=split) for split in ("train", "val"))
    assert (train.format, train.whole, train.split, train.root) == ("table", True, "train", root)
    assert train.classes == val.classes and train.classes.names == ("c2", "c3", "c10")
    assert [sample.id for sample in train.samples] == ["a", "c"]
    assert train.samples[1].image == root / "images" / "c.jpg"
    assert train.samples[0].labels == ClassLabels((2,), f"{root / 'train.csv'}, line 2", ("c10",))
    assert val.samples[0].labels.columns == (0, 1)
    train.check_files()
    with pytest.raises(DatasetError, match=r"several splits \(train, val\)"):
        load_dataset(root)


def test_the_path_of_a_table(root: Path) -> None:
    (root / "train.csv").write_text("path,label\na.jpg,x\n")
    (root / "val.csv").write_text("path,label\nb.jpg,w\n")
    dataset = load_dataset(root / "val.csv")
    assert (dataset.split, len(dataset), dataset.classes.names) == ("val", 1, ("w", "x"))
    (root / "other.csv").write_text("a.jpg,y\n")
    dataset = load_dataset(root / "other.csv")
    assert (dataset.split, dataset.classes.names) == (None, ("y",))


@pytest.mark.parametrize(
    "text", ["a.jpg,x\nb.jpg,y|z\n", "id,breed\na.jpg,x\n\nb.jpg,z;y;y\n", "Image;Class\na.jpg;x\nb.jpg;z|y"]
)
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_one_table_of_any_name(text: str, encoding: str, root: Path) -> None:
    (root / "all.csv").write_text(text, encoding=encoding)
    dataset = load_dataset(root)
    assert [sample.labels.columns for sample in dataset.samples] == [(0,), (1, 2)]
    assert (dataset.split, dataset.classes.names) == (None, ("x", "y", "z"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,kind\na.jpg,x\n", r"train\.csv, line 1: expected a column of paths.*found path, kind"),
        ("label,kind\nx,a.jpg\n", r"line 1: expected a column of paths.*found label, kind"),
        ("a.jpg\nb.jpg\n", r"line 1: found 1 column, expected"),
        ("path,label\na.jpg,x\n\nb.jpg, ;\n", r"line 4: the label of b\.jpg is empty"),
        ("path,label\n,x\n", r"line 2: the path is empty"),
        ("path,label\na.jpg\n", r"line 2: expected a path and a label, found 1 column;"),
        ("path,label\na.jpg,x\nb.jpg,x\n./a.jpg,y\n", r"line 4: \./a\.jpg is named in line 2 already"),
        ('path,label\na.jpg,"x\n', r"train\.csv is no valid CSV \(unexpected end of data\)"),
        ("path,label\n", "holds no samples"),
        ("", r"train\.csv is empty; expected a column"),
    ],
)
def test_faults_are_named_with_their_line(text: str, message: str, root: Path) -> None:
    (root / "train.csv").write_text(text)
    for path in (root, root / "train.csv"):
        with pytest.raises(DatasetError, match=message):
            load_dataset(path)


def test_no_text(root: Path) -> None:
    (root / "train.csv").write_bytes(b"\xff\xfe\x00\xd8")
    with pytest.raises(DatasetError, match="cannot be read as text"):
        load_dataset(root)


def test_a_fault_of_another_split(root: Path) -> None:
    (root / "train.csv").write_text("path,label\na.jpg,x\n")
    (root / "test.csv").write_text("path,size\nb.jpg,3\n")
    (note,) = load_dataset(root, split="train").notes
    assert "the classes of test.csv are not counted" in note
    with pytest.raises(DatasetError, match=r"test\.csv, line 1: expected"):
        load_dataset(root, split="test")


def test_a_missing_file_raises_when_it_is_read(root: Path) -> None:
    (root / "train.csv").write_text("path,label\na.jpg,x\ngone.jpg,y\n")
    dataset = load_dataset(root)
    assert "1 of 2 files" in dataset.notes[0] and "line 3: gone.jpg" in dataset.notes[0]
    with pytest.raises(ImageError, match=r"gone\.jpg does not exist"):
        dataset.check_files()


def test_twin_tables(root: Path) -> None:
    for name in ("train.csv", "train.tsv"):
        (root / name).write_text("path\tlabel\na.jpg\tx\n")
    with pytest.raises(DatasetError, match="two tables called train"):
        load_dataset(root)


def test_other_tables_are_no_data_set(root: Path) -> None:
    (root / "class_dict.csv").write_text("name,r,g,b\nroad,1,2,3\n")
    with pytest.raises(DatasetError, match="no layout that is known here"):
        load_dataset(root)


def test_texts_of_the_shared_data() -> None:
    if not TEXTS.is_dir():
        pytest.skip("the texts are not on this machine")
    train, val = (load_dataset(TEXTS, split=split) for split in ("train", "val"))
    assert (train.kind, len(train), len(val), len(train.classes)) == ("text", 1925, 770, 77)
    assert train.samples[0].text is not None and train.samples[0].text.startswith("I keep checking")
    assert train.samples[0].id == "train:2" and train.classes == val.classes


@given(
    st.lists(
        st.tuples(st.text("ab,;\"'\n x", min_size=1).filter(str.strip), st.text('c,;"\n|', min_size=1)),
        min_size=1,
    )
)
def test_cells_come_back_as_they_were_written(rows: list[tuple[str, str]]) -> None:
    out = io.StringIO(newline="")
    csv.writer(out).writerows([("path", "label"), *rows])
    found = list(_cells(out.getvalue(), Path("t.csv")))
    assert [cells for _, cells in found[1:]] == rows
    starts = [2]
    for row in rows:
        starts.append(starts[-1] + 1 + "".join(row).count("\n"))
    assert [line for line, _ in found[1:]] == starts[:-1]


def test_texts_under_unknown_names_are_not_taken_for_images(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("review,sentiment\ngreat movie,pos\nbad movie,neg\n")
    with pytest.raises(DatasetError, match="line 1 begins with 'review', which is no file; name the columns"):
        load_dataset(tmp_path / "train.csv")


def test_a_long_text(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text(f"text,label\n{'word ' * 40_000},a\nshort,b\n")
    dataset = load_dataset(tmp_path / "train.csv")
    assert dataset.samples[0].text is not None and len(dataset.samples[0].text) > 131_072


def test_json_lines(tmp_path: Path) -> None:
    table = tmp_path / "train.jsonl"
    table.write_text('{"text": "a b", "label": ["x", "y"]}\n\n{"label": 3, "text": "c"}\n')
    dataset = load_dataset(tmp_path)
    assert [sample.text for sample in dataset.samples] == ["a b", "c"]
    assert dataset.classes.names == ("3", "x", "y")
    assert whole_columns(dataset.samples[0].labels) == (1, 2)


@pytest.mark.parametrize(
    ("text", "said"),
    [("{", "line 1 is no JSON"), ("[1]", "expected an object"), ('{"text": "a"}', "expected a column")],
)
def test_faults_of_json_lines(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text(text)
    with pytest.raises(DatasetError, match=said):
        load_dataset(tmp_path / "train.jsonl")
