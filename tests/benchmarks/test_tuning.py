"""The table of what tuning expected beside the score: which interval the score is in, and what was chosen."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.tuning import plain_values, rows_of


def tuned(low: float, high: float, new: bool) -> dict[str, Any]:
    near = {"miou": 0.6, "low": 0.55, "high": 0.65}
    group = {"miou": 0.45, "low": 0.4, "high": 0.5} if new else None
    return {"expected": {"low": low, "high": high, "like_memory": near, "new_group": group}}


@pytest.mark.parametrize(
    ("new", "score", "outside"), [(True, 0.58, ["0.0", "8.0", "0.0"]), (False, 0.5, ["5.0", "0.0"])]
)
def test_the_score_is_beside_each_expectation(new: bool, score: float, outside: list[str]) -> None:
    rows = rows_of(tuned(0.4, 0.65, new), {"miou": score})
    assert [row["outside by"] for row in rows] == outside
    assert {row["scored"] for row in rows} == {f"{100 * score:.2f}"}
    assert rows[-1]["new images"] == "either" and rows[-1]["expected"] == ""


def test_a_metric_is_among_the_values_where_there_is_one() -> None:
    chosen = {
        "block": 9, "k": 90,
        "reduction": {"kind": "class", "width": 64, "shrinkage": 0.1, "whiten": "none"},
    }  # fmt: skip
    with_one = [("block", 9), ("k", 90), ("metric", "class"), ("width", 64), ("shrinkage", 0.1)]
    assert plain_values(chosen) == with_one
    chosen["reduction"] = {"kind": "none", "width": 0, "shrinkage": 0.0, "whiten": "none"}
    assert plain_values(chosen) == with_one[:2]
