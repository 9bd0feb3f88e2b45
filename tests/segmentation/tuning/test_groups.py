"""Groups of images by letters or by a regular expression, and which images are segmented."""

from __future__ import annotations

import numpy as np
import pytest

from retrieval.errors import ConfigError
from segmentation.tuning.groups import choose_queries, group_codes, group_names

IDS = ["0001TP_1", "0001TP_2", "0016E5_1", "0016E5_3"]


@pytest.mark.parametrize(
    ("rule", "names"),
    [
        (None, IDS),
        ("4", ["0001", "0001", "0016", "0016"]),
        (r"_(\d)", ["1", "2", "1", "3"]),
        (r"[A-Z]+\d?", ["TP", "TP", "E5", "E5"]),
    ],
)
def test_groups_come_from_the_ids(rule: str | None, names: list[str]) -> None:
    assert group_names(IDS, rule) == names


@pytest.mark.parametrize(
    ("ids", "rule", "message"),
    [
        (IDS, "patient", "finds no group in the image id '0001TP_1'"),
        (IDS, "TP", "finds no group in the image id '0016E5_1'"),
        (IDS, "(x*)", "finds no group"),
        (IDS, "(", "is no regular expression"),
        (IDS, "2", "there is only one: '00'"),
        (IDS, "0", "there is only one"),
        (["lonely"], None, "leaves one image out at a time, but there is only one: 'lonely'"),
    ],
)
def test_a_rule_that_makes_no_groups_is_refused(ids: list[str], rule: str | None, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        group_names(ids, rule)
    assert message in str(error.value)


def test_codes_number_the_groups() -> None:
    assert group_codes(["b", "a", "b", "c"]).tolist() == [0, 1, 0, 2]


def test_every_group_gives_images_in_proportion_to_its_size() -> None:
    codes = np.array([0, 1] * 20 + [1] * 20)
    chosen = choose_queries(codes, 12)
    assert len(set(chosen)) == 12 and chosen == sorted(chosen)
    assert np.bincount(codes[chosen]).tolist() == [4, 8]
    assert choose_queries(codes, 1000) == list(range(60))


def test_a_single_image_is_too_few_to_choose_by() -> None:
    with pytest.raises(ConfigError, match="at least 2"):
        choose_queries(np.arange(5), 1)
