"""``mycelia segment`` on GeoTIFF and on photos that are labelled in parts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segmentation.cli import segment_large

from .command import error_of, run

rasterio = pytest.importorskip("rasterio", reason="rasterio (mycelia[geo]) is not installed")

PLACE = {"crs": "EPSG:32633", "transform": rasterio.Affine(0.5, 0, 390_000, 0, -0.5, 5_820_000)}


@pytest.fixture(scope="module")
def scaled(data: Path, tiny: Path) -> Path:
    """An index whose images are seen twice as large."""
    out = data.parent / "scaled.index"
    result = run("index", "build", data, "--config", tiny, "image.scale=2", "--out", out)
    assert result.exit_code == 0, result.output
    return out


@pytest.fixture
def geotiff(tmp_path: Path, data: Path) -> Path:
    """A photo of the data three times side by side, in Berlin."""
    with Image.open(data / "images" / "photo1.png") as photo:
        pixels = np.tile(np.asarray(photo.convert("RGB")), (4, 3, 1))
    path = tmp_path / "in" / "berlin.tif"
    path.parent.mkdir()
    size = {"count": 3, "height": pixels.shape[0], "width": pixels.shape[1], "dtype": "uint8"}
    with rasterio.open(
        path, "w", driver="GTiff", tiled=True, blockxsize=32, blockysize=32, **size, **PLACE
    ) as file:
        file.write(pixels.transpose(2, 0, 1))
    return path


def read(path: Path) -> np.ndarray:
    with rasterio.open(path) as file:
        assert file.crs.to_epsg() == 32633 and file.transform == PLACE["transform"]
        assert file.count == 1 and file.dtypes == ("uint8",)
        found: np.ndarray = file.read(1)
    return found


@pytest.mark.parametrize("kind", ["index", "scaled"])
def test_a_mask_of_a_geotiff_lies_where_it_does(
    request: pytest.FixtureRequest, kind: str, geotiff: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index, found = request.getfixturevalue(kind), {}
    for name, most in (("whole", 10**9), ("parts", 100)):
        monkeypatch.setattr(segment_large, "MOST_PIXELS", most)
        monkeypatch.setattr("segmentation.strips.STRIP", 20_000 if most == 100 else 10**6)
        monkeypatch.setattr(segment_large, "OVERLAY_SIDE", 100)
        options = ("--confidence", "--overlay", "--json", "--out", tmp_path / name)
        asked = ("--min-area", "3", "--threshold", "bright=0.4", "transfer.calibration=1.5")
        result = run("segment", index, geotiff, *options, *asked)
        assert result.exit_code == 0, result.output
        (entry,) = json.loads(result.stdout)
        assert entry["mask"] == str(tmp_path / name / "berlin.tif")
        found[name] = [read(tmp_path / name / f"berlin{ending}.tif") for ending in ("", ".confidence")]
        found[name].append({key: entry[key] for key in ("height", "width", "classes", "mean_confidence")})
        found[name].append([entry[key] for key in ("instances", "defects", "defective")])
        assert sorted(path.name for path in (tmp_path / name).iterdir()) == [
            "berlin.confidence.tif",
            "berlin.overlay.jpg",
            "berlin.tif",
        ]
    np.testing.assert_array_equal(found["whole"][0], found["parts"][0])
    np.testing.assert_allclose(found["whole"][1].astype(int), found["parts"][1], atol=1)
    assert found["whole"][2]["classes"] == found["parts"][2]["classes"]
    regions, defects, _ = found["whole"][3]
    assert len(regions) >= 2 and defects[0]["score"] > 0.4
    assert found["parts"][3][2] == found["whole"][3][2]
    assert found["parts"][3][1][0]["score"] == pytest.approx(defects[0]["score"], abs=1e-5)
    for one, other in zip(found["parts"][3][0], regions, strict=True):
        assert [one[key] for key in ("class", "area", "box")] == [
            other[key] for key in ("class", "area", "box")
        ]
        assert one["mean_confidence"] == pytest.approx(other["mean_confidence"], abs=1e-5)
    with Image.open(tmp_path / "parts" / "berlin.overlay.jpg") as picture:
        assert picture.width == 240 and picture.height > 64  # the legend's least width
    with rasterio.open(tmp_path / "parts" / "berlin.tif") as file:
        assert file.colorinterp[0].name == "palette"


def test_a_photo_of_many_tiles_is_a_png_as_any(
    scaled: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = data / "images"
    for name, most in (("whole", 10**9), ("parts", 100)):
        monkeypatch.setattr(segment_large, "MOST_PIXELS", most)
        result = run("segment", scaled, photos, "--out", tmp_path / name, "--confidence", "--overlay")
        assert result.exit_code == 0, result.output
    for path in sorted((tmp_path / "whole").iterdir()):
        with Image.open(path) as one, Image.open(tmp_path / "parts" / path.name) as other:
            assert one.mode == other.mode
            np.testing.assert_array_equal(np.asarray(one), np.asarray(other))


def test_a_limit_against_bombs_does_not_stop_windows(
    index: Path, scaled: Path, geotiff: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5000)
    plain = tmp_path / "plain.tif"  # which lies nowhere
    with rasterio.open(geotiff) as file:
        Image.fromarray(file.read().transpose(1, 2, 0)).save(plain)
    result = run("segment", scaled, geotiff, plain, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    with rasterio.open(tmp_path / "out" / "plain.tif") as file:
        np.testing.assert_array_equal(file.read(1), read(tmp_path / "out" / "berlin.tif"))
        assert file.crs is None
    monkeypatch.setattr(segment_large, "MOST_PIXELS", 100)
    error = error_of(run("segment", scaled, geotiff, "--out", tmp_path / "fine", "transfer.refine=guided"))
    assert "set transfer.refine=none" in error


def test_a_bad_large_photo_is_skipped_when_told(
    scaled: Path, geotiff: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segment_large, "MOST_PIXELS", 100)
    bad = geotiff.with_name("bad.tif")
    bad.write_bytes(geotiff.read_bytes()[:-20_000])
    out = tmp_path / "out"
    error = error_of(run("segment", scaled, bad, "--out", out))
    assert "bad.tif" in error and not list(out.iterdir()), "nothing half written stays"
    result = run("segment", scaled, bad, geotiff, "--out", out, "--skip-bad")
    assert result.exit_code == 0, result.output
    assert "bad.tif" in result.stderr and [path.name for path in out.iterdir()] == ["berlin.tif"]


def test_overlap_may_be_another_and_the_scale_may_not(scaled: Path, data: Path, tmp_path: Path) -> None:
    photo = data / "images" / "photo0.png"
    result = run("segment", scaled, photo, "--out", tmp_path, "image.overlap=0.5", "image.shifts=2")
    assert result.exit_code == 0, result.output
    error = error_of(run("segment", scaled, photo, "--out", tmp_path / "b", "image.scale=1"))
    assert "image.scale cannot be changed here" in error
    error = error_of(run("segment", scaled, photo, "--out", tmp_path / "b", "image.overlap=0.7"))
    assert "image.overlap = 0.7 does not fit" in error


def test_inspect_says_that_images_are_seen_in_tiles(data: Path, tiny: Path) -> None:
    result = run("inspect", data, "--config", tiny, "image.scale=2", "image.size=[16,160]")
    assert result.exit_code == 0, result.output
    assert "16 x 160 (the recipe's) is the size of the tiles" in " ".join(result.stdout.split())


def test_evaluate_and_search_see_tiles(scaled: Path, data: Path, tmp_path: Path) -> None:
    file = tmp_path / "score.json"
    result = run(
        "evaluate", scaled, data, "--protocol", "hummingbird", "--report", tmp_path / "report", "--json", file
    )
    assert result.exit_code == 0, result.output
    assert json.loads(file.read_text())["miou"] > 0.5
    result = run(
        "search", scaled, data / "images" / "photo0.png", "--at", "40,60", "--picture", tmp_path / "why.png"
    )
    assert result.exit_code == 0, result.output


def test_confidence_of_tiles_is_calibrated(scaled: Path, data: Path) -> None:
    settings = ("transfer.temperature=1", "transfer.k=20", "image.shifts=2")  # printed, and not stored
    result = run("evaluate", scaled, data, "--leave-out", "--calibrate", *settings)
    assert result.exit_code == 0, result.output
    assert "transfer.calibration=" in result.stdout and "10,080 pixels of the fit" in result.stdout
    result = run("evaluate", scaled, data, "--leave-out", "--defect", "bright=0.5", *settings)
    assert result.exit_code == 0, result.output
    assert "at bright=0.5: true positive rate 100.0" in result.stdout
