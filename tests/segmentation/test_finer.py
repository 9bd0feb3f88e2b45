"""Segmenters whose recipe asks for finer patch grids, mirror images or refined edges."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from indexer.recipe import TransferSettings, recipe_from_dict
from retrieval.errors import ConfigError
from retrieval.neighbors import Filter
from segmentation import Segmenter, evaluate, segmenter
from segmentation.labelling import pooled
from segmentation.scoring.boundary import boundary_overlap
from segmentation.scoring.peers import truth_at_input
from segmentation.transfer import blend_labels, vote_shares


@pytest.mark.parametrize("fit", ["stretch", "pad"])
@pytest.mark.parametrize("shifts", [2, 4])
@pytest.mark.parametrize("size", [(1, 1), (3, 200), (97, 5), (33, 47), (127, 64)])
def test_finer_masks_have_the_size_of_the_photo(world, scene, fit, shifts, size) -> None:
    photo, columns = scene(2, size)
    result = world(image={"fit": fit, "shifts": shifts}).segment(photo)
    assert result.mask.shape == result.confidence.shape == size == result.size
    assert result.shares.shape == (4 * shifts, 6 * shifts, 4)
    if min(size) > 30:
        # a patch across the border of two areas has a colour between theirs, perhaps another class's
        assert (result.columns == columns).mean() > 0.8


def test_a_finer_grid_finds_a_thin_line_where_it_is(world, scene, classes) -> None:
    photo, columns = scene(100, (32, 48))  # a memory image at the input's own size
    photo = photo.copy()
    photo[:, 20:28] = (220, 60, 60)  # as wide as a patch, across the border of two
    columns = columns.copy()
    columns[:, 20:28] = classes.names.index("road")
    coarse, fine = (world(image={"shifts": n}).segment(photo) for n in (1, 2))
    assert (fine.columns == columns).mean() > (coarse.columns == columns).mean() + 0.02


@pytest.mark.parametrize("image", [{"shifts": 2}, {"flip": True}, {"shifts": 2, "flip": True, "fit": "pad"}])
def test_votes_explain_the_patch_nearest_to_a_pixel(world, scene, image, classes) -> None:
    result = world(image=image).segment(scene(5, (64, 96))[0])
    votes = result.explain(20, 80)
    assert sum(vote.weight for vote in votes) == pytest.approx(1, abs=1e-6)
    row, col = result.patch_at(20, 80)
    top, left, bottom, right = result.grid.patch_box(row, col)
    assert top <= 20 < bottom and left <= 80 < right
    expected = dict.fromkeys(classes.names, 0.0)
    for vote in votes:
        for name, share in vote.label.items():
            expected[name] += vote.weight * share
    np.testing.assert_allclose(result.shares[row, col], list(expected.values()), atol=1e-5)


def test_a_flipped_photo_has_the_mean_of_two_votes(world, scene) -> None:
    subject = world(image={"flip": True})
    described = subject.describe(scene(4, (40, 60))[0])
    assert len(described.views) == 2
    noise = np.random.default_rng(0).normal(scale=0.3, size=described.views[1].vectors.shape)
    mirrored = (described.views[1].vectors + noise).astype(np.float32)
    mirrored /= np.linalg.norm(mirrored, axis=1, keepdims=True)
    described = replace(described, views=(described.views[0], replace(described.views[1], vectors=mirrored)))
    halves = []
    for view in described.views:
        found = subject.index.search(view.vectors, 5)
        halves.append(blend_labels(found.labels, vote_shares(found, temperature=0.05)))
    assert not np.allclose(*halves, atol=0.05)
    result = subject.label(described)
    np.testing.assert_allclose(result.shares.reshape(24, 4), np.mean(halves, axis=0), atol=1e-5)
    assert result.neighbors.k == 10
    assert subject.label(described, filter=Filter(images=[])).confidence.max() == 0


def test_rows_that_stand_for_several_patches_keep_their_numbers(world, scene) -> None:
    subject = world()
    found = subject.index.search(subject.describe(scene(0, (9, 9))[0]).views[0].vectors, 3)
    found = replace(found, multiplicity=np.full(found.ids.shape, 2, dtype=np.float32))
    both, votes = pooled([found, found], [vote_shares(found, temperature=1.0)] * 2)
    assert both.multiplicity is not None and both.multiplicity.shape == both.ids.shape == votes.shape
    np.testing.assert_allclose(votes.sum(axis=1), 1, rtol=1e-6)


def test_many_photos_are_refined_as_one_is(world, scene) -> None:
    subject = world(image={"shifts": 2}, transfer={"refine": "guided", "refine_radius": 4})
    photos = [scene(seed, (40 + seed, 70 - seed))[0] for seed in range(5)]
    for photo, (_, result) in zip(photos, subject.segment_many(enumerate(photos)), strict=True):
        alone = subject.segment(photo)
        np.testing.assert_array_equal(result.mask, alone.mask)
        assert result.refined and result.confidence.max() <= 1


def test_refined_masks_have_sharper_edges_on_photos(world, scene) -> None:
    photo, columns = scene(1, (64, 96))
    columns = columns.copy()
    photo = photo.copy()
    photo[:, 41:55], columns[:, 41:55] = photo[:, :14], columns[:, :14]
    photo[:, 55:], columns[:, 55:] = (235, 225, 60), 3

    def overlap(transfer: dict[str, object]) -> float:
        counts = boundary_overlap(
            columns.astype(np.int32), world(transfer=transfer).segment(photo).columns, 4
        )
        return float(counts[:, 0].sum() / counts[:, 1].sum())

    assert overlap({"refine": "guided"}) > overlap({}) + 0.05


def test_a_description_without_its_photo_cannot_be_refined(world, scene) -> None:
    described = world().describe(scene(0, (20, 30))[0])
    assert described.photo is None
    with pytest.raises(ConfigError, match="lacks its photo; describe it with the segmenter that labels it"):
        world(transfer={"refine": "guided"}).label(described)


def test_open_changes_the_settings_of_photos(index_on_disk, color_extractor, scene, monkeypatch) -> None:
    def open_extractor(folder, manifest, *, runtime=None):
        return color_extractor(recipe_from_dict(manifest.recipe))

    monkeypatch.setattr(segmenter, "open_extractor", open_extractor)
    guided = TransferSettings(k=3, refine="guided", refine_radius=5)
    with Segmenter.open(index_on_disk, shifts=2, flip=True, transfer=guided, temperature=0.5) as subject:
        assert (subject.recipe.image.shifts, subject.recipe.image.flip) == (2, True)
        assert subject.recipe.transfer == guided.model_copy(update={"temperature": 0.5})
        result = subject.segment(scene(0, (64, 96))[0])
        assert result.shares.shape == (8, 12, 4) and result.neighbors.k == 6 and result.refined
    with Segmenter.open(index_on_disk) as subject:
        assert (subject.recipe.image.shifts, subject.recipe.image.flip) == (1, False)
    with pytest.raises(ConfigError, match=r"image\.shifts = 3 does not fit"):
        Segmenter.open(index_on_disk, shifts=3)


def test_reports_have_the_boundary_iou(world, dataset, scene) -> None:
    scenes = [scene(seed, (48, 60 + seed)) for seed in range(3)]
    scenes[0][1][:5] = -1
    subject = world()
    report = evaluate(subject, dataset(scenes))
    counts = sum(
        boundary_overlap(columns.astype(np.int32), subject.segment(photo).columns, 4)
        for photo, columns in scenes
    )
    np.testing.assert_array_equal(report.boundary, counts)
    shares = {row.name: row.boundary for row in report.rows()}
    data = report.to_json()
    for name, share in data["boundary_per_class"].items():
        assert share == shares[name] or (share is None and np.isnan(shares[name]))
    assert data["boundary_miou"] == pytest.approx(np.nanmean(list(shares.values())))
    assert report.boundary_miou < report.miou


def test_the_peers_score_sees_the_refined_mask(world, dataset, scene) -> None:
    photo, columns = scene(3, (64, 96))
    subject = world(transfer={"refine": "guided", "refine_radius": 4})
    report = evaluate(subject, dataset([(photo, columns)]), protocol="hummingbird")
    result = subject.segment(photo)
    seen = truth_at_input(result.columns, result.geometry)
    truth = truth_at_input(columns.astype(np.int32), result.geometry)
    assert report.hummingbird_miou is not None
    ious = [((seen == c) & (truth == c)).sum() / max(1, ((seen == c) | (truth == c)).sum()) for c in range(4)]
    assert report.hummingbird_miou == pytest.approx(np.mean(ious))
