"""``mycelia slices``: volumes as images and masks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from indexer.datasets import load_dataset
from indexer.images.volumes import Window, read_volume

from .command import error_of, run


def write_pages(path: Path, pages: npt.NDArray[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    first, *rest = (Image.fromarray(page) for page in pages)
    first.save(path, save_all=True, append_images=rest)
    return path


def write_nifti(path: Path, values: npt.NDArray[Any], affine: npt.NDArray[Any] | None = None) -> Path:
    nibabel = pytest.importorskip("nibabel", reason="the extra medical is not installed")
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4) if affine is None else affine), path)
    return path


def pixels(path: Path) -> npt.NDArray[Any]:
    with Image.open(path) as image:
        return np.array(image)


def test_pages_become_images_and_masks(tmp_path: Path) -> None:
    values = (np.arange(3 * 4 * 5).reshape(3, 4, 5) * 100).astype(np.uint16)
    write_pages(tmp_path / "in" / "scan.tif", values)
    write_pages(tmp_path / "labels" / "scan.tif", (values >= 3000).astype(np.uint8))
    out = tmp_path / "data"
    result = run(
        "slices", tmp_path / "in", "--labels", tmp_path / "labels", "--out", out, "--window=1000,3000"
    )
    assert result.exit_code == 0, result.output
    assert [path.name for path in sorted((out / "images").iterdir())] == [f"scan#00{n}.png" for n in range(3)]
    expected = np.rint(255 * np.clip((values.astype(float) - 1000) / 2000, 0, 1))
    for number in range(3):
        assert np.array_equal(pixels(out / "images" / f"scan#00{number}.png"), expected[number])
    dataset = load_dataset(out)
    assert [sample.id for sample in dataset.samples] == [f"scan#00{n}" for n in range(3)]
    assert np.array_equal(dataset.read_mask(dataset.samples[1]), values[1] >= 3000)


def test_floats_without_a_window_are_cut_at_percentiles(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    values = generator.normal(-300, 100, size=(2, 40, 50)).astype(np.float32)
    values[0, 0, 0] = 1e6
    path = write_pages(tmp_path / "scan.tiff", values)
    result = run("slices", path, "--out", tmp_path / "data", "--every", 2)
    assert result.exit_code == 0, result.output
    low, high = np.percentile(values, (0.5, 99.5))
    assert f"values {low:g} to {high:g} become grey 0 to 255" in result.stderr
    (image,) = (tmp_path / "data" / "images").iterdir()
    assert np.array_equal(pixels(image), Window(float(low), float(high)).to_bytes(values[0]))


def test_windows_of_odd_values() -> None:
    odd = np.array([np.nan, -np.inf, np.inf, 5.0])
    assert Window(0, 10).to_bytes(odd).tolist() == [0, 0, 255, 128]
    assert Window.of(np.full(4, 7)) == Window(7.0, 8.0)
    assert Window.of(np.array([np.nan])) == Window(0.0, 1.0)


def test_nifti_is_turned_to_anatomical_axes(tmp_path: Path) -> None:
    values = np.zeros((4, 5, 6), dtype=np.int16)  # right, front, up
    values[3, 4, 2] = 100  # at the patient's right and front
    for name, flipped, affine in (
        ("ras.nii.gz", values, np.eye(4)),
        ("lps.nii", values[::-1, ::-1], np.diag([-1.0, -1.0, 1.0, 1.0])),
    ):
        path = write_nifti(tmp_path / name, np.ascontiguousarray(flipped), affine)
        axial = read_volume(path)
        assert axial.shape == (6, 5, 4)
        assert np.argwhere(axial).tolist() == [[2, 0, 0]]  # front on top, the patient's right at the left
        assert np.argwhere(read_volume(path, axis=1)).tolist() == [[4, 3, 0]]  # coronal: up on top
        assert np.argwhere(read_volume(path, axis=0)).tolist() == [[3, 3, 4]]  # sagittal: front at the right


def test_label_volumes_pair_as_nnunet_names_them(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(4, 5, 3)).astype(np.float32)
    ids = (values > 0).astype(np.uint8)
    write_nifti(tmp_path / "imagesTr" / "case_7_0000.nii.gz", values)
    write_nifti(tmp_path / "labelsTr" / "case_7.nii.gz", ids)
    out = tmp_path / "data"
    assert (
        run("slices", tmp_path / "imagesTr", "--labels", tmp_path / "labelsTr", "--out", out).exit_code == 0
    )
    mask = pixels(out / "masks" / "case_7_0000#002.png")
    assert np.array_equal(mask, ids[:, :, 2].T[::-1, ::-1])


def test_what_is_refused(tmp_path: Path) -> None:
    scan = write_pages(tmp_path / "in" / "scan.tif", np.zeros((2, 3, 4), dtype=np.uint8))
    out = tmp_path / "data"
    (tmp_path / "labels").mkdir()
    assert "no label volume of scan" in error_of(
        run("slices", scan, "--labels", tmp_path / "labels", "--out", out)
    )
    write_pages(tmp_path / "labels" / "scan.tif", np.zeros((2, 4, 4), dtype=np.uint8))
    assert "have to be equal" in error_of(run("slices", scan, "--labels", tmp_path / "labels", "--out", out))
    write_pages(tmp_path / "labels" / "scan.tif", np.full((2, 3, 4), 0.5, dtype=np.float32))
    assert "no whole numbers" in error_of(run("slices", scan, "--labels", tmp_path / "labels", "--out", out))
    assert "two numbers" in error_of(run("slices", scan, "--out", out, "--window", "5"))
    assert "below the second" in error_of(run("slices", scan, "--out", out, "--window", "5,5"))
    assert "holds no volume" in error_of(run("slices", tmp_path, "--out", out))
    (tmp_path / "bad.tif").write_bytes(b"x")
    assert "cannot be read as TIFF" in error_of(run("slices", tmp_path / "bad.tif", "--out", out))
    (tmp_path / "a.txt").write_text("x")
    assert "is no volume" in error_of(run("slices", tmp_path / "a.txt", "--out", out))
    assert run("slices", scan, "--out", out).exit_code == 0
    assert "exists already" in error_of(run("slices", scan, "--out", out))


def test_a_data_set_is_whole_or_not_there(tmp_path: Path) -> None:
    write_pages(tmp_path / "in" / "a.tif", np.zeros((2, 3, 4), dtype=np.uint8))
    (tmp_path / "in" / "b.tif").write_bytes(b"x")
    out = tmp_path / "out"
    assert "cannot be read as TIFF" in error_of(run("slices", tmp_path / "in", "--out", out))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in"]
    write_pages(tmp_path / "in" / "b.tif", np.zeros((2, 3, 4), dtype=np.uint8))
    assert run("slices", tmp_path / "in", "--out", out).exit_code == 0
    assert len(list((out / "images").iterdir())) == 4


def test_pages_of_one_bit_are_read(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random((2, 8, 9)) > 0.5
    path = write_pages(tmp_path / "bits.tif", values)
    assert run("slices", path, "--labels", tmp_path, "--out", tmp_path / "out").exit_code == 0
    for number, page in enumerate(values):
        with Image.open(tmp_path / "out" / "masks" / f"bits#{number:03}.png") as mask:
            assert np.array_equal(np.asarray(mask), page)
        with Image.open(tmp_path / "out" / "images" / f"bits#{number:03}.png") as image:
            assert np.array_equal(np.asarray(image), 255 * page.astype(np.uint8))
