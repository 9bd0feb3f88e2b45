"""What labels an image, and how a change of it is noticed."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from indexer.datasets import Sample
from indexer.datasets.keys import SampleKeys, SourceKey
from indexer.datasets.labels import MaskFile, NoLabels
from indexer.datasets.masks import ColorCode
from retrieval.classes import ClassInfo, ClassMap
from retrieval.errors import MaskError

CLASSES = ClassMap((ClassInfo(3, "sky", (0, 0, 255)), ClassInfo(7, "road", (9, 9, 9))), ignore=(255,))


@pytest.fixture
def mask(tmp_path: Path) -> Path:
    Image.fromarray(np.array([[3, 7, 255]], np.uint8)).save(tmp_path / "m.png")
    return tmp_path / "m.png"


def test_mask_file_reads_columns(mask: Path) -> None:
    source = MaskFile(mask, CLASSES)
    source.check()
    columns = source.read()
    assert columns.dtype == np.int32 and columns.tolist() == [[0, 1, -1]]
    assert source.name == str(mask)


def test_missing_mask_file(tmp_path: Path) -> None:
    source = MaskFile(tmp_path / "gone.png", CLASSES)
    for look in (source.check, source.read):
        with pytest.raises(MaskError, match=r"gone\.png does not exist"):
            look()
    assert source.key() == SourceKey(str(tmp_path / "gone.png"), "")


def test_no_labels(tmp_path: Path) -> None:
    source = NoLabels(tmp_path / "i.png")
    for look in (source.check, source.read):
        with pytest.raises(MaskError, match=r"i\.png has no mask; add one with the same name"):
            look()
    assert source.key().equals(source.key())


def test_key_sees_content_and_not_the_time(mask: Path) -> None:
    source = MaskFile(mask, CLASSES)
    first = source.key()
    os.utime(mask, ns=(5, 5))
    assert source.key(first) != first and source.key(first).equals(first)
    mask.write_bytes(mask.read_bytes() + b"!")
    assert not source.key(first).equals(first)
    mask.unlink()
    assert not source.key(first).equals(first)


def test_key_sees_what_colours_mean(mask: Path) -> None:
    codes = (None, ColorCode.of_classes(CLASSES), ColorCode.of_classes(CLASSES, ignore=((1, 1, 1),)))
    keys = [MaskFile(mask, CLASSES, code).key() for code in codes]
    assert len({key.name for key in keys}) == 3 and len({key.sha256 for key in keys}) == 1
    assert not keys[2].equals(MaskFile(mask, CLASSES, codes[1]).key(keys[2]))


def test_known_file_is_not_read_again(mask: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = SourceKey.of_file(mask)
    monkeypatch.setattr("indexer.datasets.keys.sha256_file", lambda path: "read")
    assert SourceKey.of_file(mask, known=known) is known
    assert SourceKey.of_file(mask, name="another", known=known).sha256 == "read"
    os.utime(mask, ns=(5, 5))
    assert SourceKey.of_file(mask, known=known).sha256 == "read"


def test_keys_survive_json(mask: Path) -> None:
    keys = Sample("x", mask, NoLabels(mask)).keys()
    assert keys.image.sha256 and not keys.labels.sha256
    assert SampleKeys.from_json(json.loads(json.dumps(asdict(keys)))) == keys
