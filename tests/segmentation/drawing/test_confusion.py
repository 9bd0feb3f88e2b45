"""The picture of a confusion matrix: rows as shares, and which of many classes are named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segmentation.drawing.confusion import NAMED, draw_confusion, most_confused, row_shares
from segmentation.drawing.pictures import write_figure


def test_rows_are_shares_and_empty_ones_are_none() -> None:
    shares = row_shares(np.array([[3, 1, 0], [0, 0, 0], [0, 2, 2]]))
    np.testing.assert_allclose(shares[[0, 2]], [[0.75, 0.25, 0], [0, 0.5, 0.5]])
    assert np.isnan(shares[1]).all()


def test_the_most_confused_come_in_pairs() -> None:
    confusion = np.diag(np.full(9, 10))
    confusion[2, 7], confusion[8, 0], confusion[4, 5] = 10, 5, 1  # shares 1/2, 1/3, 1/11
    assert most_confused(confusion, 2) == [2, 7]
    assert most_confused(confusion, 4) == [0, 2, 7, 8]
    assert most_confused(confusion, 9) == [0, 2, 4, 5, 7, 8]  # the others are never taken for one another
    assert most_confused(confusion, 9, apart=2) == [0, 2, 4, 7]
    assert most_confused(np.diag(np.full(3, 4)), 3) == []


@pytest.mark.parametrize("size", [1, 5, 77])
def test_names_of_few_are_all_written_and_of_many_the_most_confused(size: int, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    confusion = np.diag(random.integers(5, 9, size)) + random.integers(0, 3, (size, size))
    names = [f"class {number}" for number in range(size)]
    figure = draw_confusion(confusion, names, title="a title")
    (axes,) = figure.axes
    written = [label.get_text() for label in axes.get_yticklabels()]
    assert written == [label.get_text() for label in axes.get_xticklabels()]
    assert [names.index(name) for name in written] == axes.get_yticks().tolist()
    assert len(written) == min(size, NAMED)
    if size == 5:
        cells = {text.get_position(): text.get_text() for text in axes.texts}
        share = 100 * confusion[1, 1] / confusion[1].sum()
        assert cells[1, 1] == f"{share:.0f}"
    with Image.open(write_figure(tmp_path / "confusion.png", figure)) as picture:
        assert picture.format == "PNG" and 400 < picture.width < 1500
