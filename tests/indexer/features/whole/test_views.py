"""Views of a whole image beside torchvision's transforms, and what the seed decides."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from indexer.features.whole import views
from indexer.objective_settings import DINOSettings


def picture(height: int = 90, width: int = 130) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8)


def test_the_single_view_is_resized_and_cut_at_its_centre() -> None:
    transforms = pytest.importorskip("torchvision.transforms.v2", reason="torchvision is not installed")
    resized = transforms.functional.resize(picture(), [256, 256], antialias=True)
    expected = transforms.functional.center_crop(resized, [224, 224]).float() / 255
    found = views.single(picture(), (224, 224))
    assert found.shape == (1, 3, 224, 224)
    assert float((found[0] - expected).abs().max()) <= 1 / 255 + 1e-6


def test_overlapping_windows_are_those_of_the_authors() -> None:
    found = views.overlapping(picture(), (224, 224), patches=4, stride_scale=6)
    assert found.shape == (49, 3, 224, 224)
    whole = torch.nn.functional.interpolate(
        picture()[None].float(), size=(224, 224), mode="bicubic", antialias=True
    ).round_()
    window = (whole.clamp_(0, 255) / 255)[:, :, 18:130, 36:148]
    expected = torch.nn.functional.interpolate(window, size=(224, 224), mode="bicubic", antialias=True)
    torch.testing.assert_close(found[7 + 2], expected[0])


def test_crops_follow_from_the_seed_alone() -> None:
    settings = DINOSettings()
    first = views.crops(picture(), (32, 32), settings, seed=1)
    assert first.shape == (12, 3, 32, 32)
    torch.testing.assert_close(first, views.crops(picture(), (32, 32), settings, seed=1), rtol=0, atol=0)
    assert not torch.equal(first, views.crops(picture(), (32, 32), settings, seed=2))


@pytest.mark.parametrize("shape", [(100, 100), (37, 200), (300, 20), (1, 50)])
@pytest.mark.parametrize("scale", [(0.25, 1.0), (0.05, 0.25)])
def test_random_boxes_lie_in_the_image(shape: tuple[int, int], scale: tuple[float, float]) -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(200):
        top, left, height, width = views.random_box(shape, scale, generator)
        assert top >= 0 and left >= 0 and height >= 1 and width >= 1
        assert top + height <= shape[0] and left + width <= shape[1]


def test_areas_of_random_boxes_are_uniform_in_the_scale() -> None:
    generator = torch.Generator().manual_seed(0)
    areas = []
    for _ in range(2000):
        _, _, height, width = views.random_box((400, 400), (0.05, 0.25), generator)
        areas.append(height * width / 400**2)
    assert sum(areas) / len(areas) == pytest.approx(0.15, abs=0.005)
    assert min(areas) >= 0.049 and max(areas) <= 0.251
