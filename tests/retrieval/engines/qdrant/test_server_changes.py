"""Changes of an index on a server, which shows each upload at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from retrieval import IndexFolder, Manifest, open_index
from retrieval.edit.add import NewImage, add_images
from retrieval.edit.relabel import relabel_index
from retrieval.errors import ConfigError, ServerError

pytest.importorskip("qdrant_client")

from .stub import RECORDS, fill


@pytest.fixture
def stored(stub: Any, manifest: Callable[..., Manifest], bank: Any, tmp_path: Path) -> Path:
    with fill(stub, tmp_path / "index", manifest(), bank) as index:
        index.flush(images=RECORDS)
    return tmp_path / "index"


def image(bank: Any, id: str, *, rows: int = 6, classes: int = 4) -> NewImage:
    labels = np.zeros((rows, classes), np.uint8)
    labels[:, -1] = 255
    record = replace(RECORDS[3], id=id)
    return NewImage(record, bank.vectors[90 : 90 + rows], labels, bank.patches[90 : 90 + rows, 1:])


def labels_by_number(path: Path) -> dict[int, list[int]]:
    with open_index(path) as index:
        found: dict[int, list[int]] = {}
        for rows in index.stream():
            for label, patch in zip(rows.labels, rows.patches, strict=True):
                found.setdefault(int(patch[0]), []).append(int(label.argmax()))
    return found


def test_a_replaced_image_overwrites_its_rows_before_the_rest_goes(
    stored: Path, stub: Any, bank: Any
) -> None:
    stub.calls.clear()
    report = add_images(stored, [image(bank, "photo 3")], replace_known=True)
    assert report.replaced == ("photo 3",)
    found = labels_by_number(stored)
    assert found[10] == [3] * 6 and 3 not in found and sum(map(len, found.values())) == 276
    order = [name for name, _ in stub.calls if name in ("Upsert", "Delete")]
    assert order.index("Upsert") < len(order) - 1 - order[::-1].index("Delete")


def test_a_replacement_that_was_stopped_is_done_by_the_next_call(stored: Path, stub: Any, bank: Any) -> None:
    import grpc

    stub.refusals["Delete"] = [grpc.StatusCode.INVALID_ARGUMENT]
    with pytest.raises(ServerError):
        add_images(stored, [image(bank, "photo 3")], replace_known=True)
    add_images(stored, [image(bank, "photo 3")], replace_known=True)
    found = labels_by_number(stored)
    assert found[10] == [3] * 6 and 3 not in found and len(found) == 10


def test_classes_get_names_and_more_of_them_but_do_not_become_one(stored: Path, stub: Any, bank: Any) -> None:
    with open_index(stored) as reader:
        relabel_index(stored, {"class 0": "car"})
        known = IndexFolder.open(stored).manifest.classes
        more = replace(known, classes=(*known.classes, replace(known.classes[0], id=77, name="new")))
        add_images(stored, [image(bank, "x", classes=5)], classes=more)
        assert reader.refresh() and not reader.refresh()
        assert reader.classes.names == ("car", "class 1", "class 2", "class 3", "new") and len(reader) == 306
    assert labels_by_number(stored)[10] == [4] * 6
    with pytest.raises(ConfigError, match="cannot become one"):
        relabel_index(stored, {"class 1": "class 2"})
