from __future__ import annotations

import base64
import io
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from retrieval.classes import ClassInfo, ClassMap
from segmentation.service.blanks import blank_id
from segmentation.service.errors import ServiceError


def unpack(packed: dict[str, Any]) -> np.ndarray:
    data = zlib.decompress(base64.b64decode(packed["data"]))
    return np.frombuffer(data, dtype=packed["dtype"]).reshape(packed["shape"])


def test_unsure_pixels_are_left_blank(client: TestClient, photo: bytes) -> None:
    sent = {"content": photo, "headers": {"Content-Type": "image/png"}}
    whole = client.post("/v1/segment", **sent).json()
    confidence = unpack(whole["confidence"])
    least = (int(confidence.min()) + 0.5) / 255
    unsure = confidence == confidence.min()
    assert 0 < unsure.sum() < unsure.size
    partly = client.post("/v1/segment", params={"min_confidence": least}, **sent).json()
    expected = np.where(unsure, 255, unpack(whole["mask"]))
    assert (unpack(partly["mask"]) == expected).all()
    assert sum(partly["shares"].values()) == pytest.approx(1 - unsure.mean(), abs=1e-4)
    png = client.post(f"/v1/segment/{whole['id']}", params={"format": "png", "min_confidence": least})
    assert (np.asarray(Image.open(io.BytesIO(png.content))) == expected).all()
    over = client.post(f"/v1/segment/{whole['id']}", params={"format": "overlay", "min_confidence": least})
    drawn, shown = (np.asarray(Image.open(io.BytesIO(content))) for content in (over.content, photo))
    assert (drawn == shown)[unsure].all()
    assert client.post("/v1/segment", params={"min_confidence": 2}, **sent).status_code == 422


def test_an_id_for_nothing() -> None:
    def classes(ids: range, ignore: tuple[int, ...] = ()) -> ClassMap:
        return ClassMap(tuple(ClassInfo(id, f"class {id}", (0, 0, id % 256)) for id in ids), ignore)

    assert blank_id(classes(range(3))) == 255
    assert blank_id(classes(range(3), (250, 254))) == 254
    assert blank_id(classes(range(250, 256))) == 249
    assert blank_id(classes(range(300))) == 65535
    with pytest.raises(ServiceError, match="all 256 ids"):
        blank_id(classes(range(256)))
