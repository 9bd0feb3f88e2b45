from __future__ import annotations

import base64
import io
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from segmentation.export import FORMATS
from segmentation.segmenter import Segmenter


def unpack(packed: dict[str, Any]) -> np.ndarray:
    data = zlib.decompress(base64.b64decode(packed["data"]))
    return np.frombuffer(data, dtype=packed["dtype"]).reshape(packed["shape"])


@pytest.fixture
def expected(index: Path, photo: bytes) -> Any:
    with Segmenter.open(index) as segmenter:
        yield segmenter.segment(Image.open(io.BytesIO(photo)))


def test_a_form_and_a_raw_body_give_what_the_library_gives(
    client: TestClient, photo: bytes, expected: Any
) -> None:
    form = client.post("/v1/segment", files={"image": ("a.png", photo, "image/png")}).json()
    raw = client.post("/v1/segment", content=photo, headers={"Content-Type": "image/png"}).json()
    for answer in (form, raw):
        assert (unpack(answer["mask"]) == expected.columns).all()
        assert (unpack(answer["confidence"]) == np.rint(255 * expected.confidence)).all()
        assert (answer["height"], answer["width"]) == expected.mask.shape
        assert [info["name"] for info in answer["classes"]] == ["dark", "bright"]
        assert sum(answer["shares"].values()) == pytest.approx(1, abs=1e-5)
        assert answer["version"] == client.get("/v1/index").json()["version"]
    assert form["id"] == raw["id"] and len(form["id"]) == 32


def test_a_photo_seen_before_is_not_described_again(client: TestClient, photo: bytes) -> None:
    first = client.post("/v1/segment", files={"image": photo}).json()
    memory = client.app.state.service.memory  # type: ignore[attr-defined]
    memory.describe = None  # it would fail now
    again = client.post(f"/v1/segment/{first['id']}").json()
    assert again["mask"] == first["mask"]
    assert client.post("/v1/segment", files={"image": photo}).json()["mask"] == first["mask"]
    gone = client.post(f"/v1/segment/{'0' * 32}")
    assert gone.status_code == 404
    assert gone.json()["error"]["code"] == "not_found"


def test_pictures(client: TestClient, photo: bytes, expected: Any) -> None:
    mask = client.post("/v1/segment", files={"image": photo}, headers={"Accept": "image/png"})
    assert mask.headers["content-type"] == "image/png"
    opened = Image.open(io.BytesIO(mask.content))
    assert opened.mode == "P"
    assert (np.array(opened) == expected.mask).all()
    overlay = client.post("/v1/segment?format=overlay", files={"image": photo})
    assert Image.open(io.BytesIO(overlay.content)).size == expected.mask.shape[::-1]
    assert mask.headers["x-mycelia-version"] == client.get("/v1/classes").json()["version"]


@pytest.mark.parametrize("name", [format.name for format in FORMATS])
def test_every_export_format_is_an_answer(client: TestClient, photo: bytes, name: str) -> None:
    answer = client.post(f"/v1/segment?format={name}", files={"image": ("../street 1.png", photo)})
    assert answer.status_code == 200, answer.text
    assert answer.content
    if name != "png":
        assert "street_1" in answer.headers["content-disposition"]
    listed = {each["name"]: each for each in client.get("/v1/index").json()["formats"]}
    assert answer.headers["content-type"].startswith(listed[name]["media_type"])
    if listed[name]["media_type"] == "application/json":
        assert "/tmp" not in json.dumps(answer.json())


def test_an_unknown_format_is_refused_before_the_photo_is_read(client: TestClient, photo: bytes) -> None:
    answer = client.post("/v1/segment?format=pdf", files={"image": photo})
    assert answer.status_code == 400
    assert "pdf" in answer.json()["error"]["message"]


def test_a_pixel_is_explained_by_the_memory(client: TestClient, photo: bytes, expected: Any) -> None:
    id = client.post("/v1/segment", files={"image": photo}).json()["id"]
    answer = client.post("/v1/explain", json={"id": id, "row": 10, "col": 60}).json()
    assert answer["class"]["column"] == expected.columns[10, 60]
    assert answer["class"]["confidence"] == pytest.approx(float(expected.confidence[10, 60]), abs=1e-5)
    patch = answer["patch"]
    assert patch["top"] <= 10 < patch["bottom"] and patch["left"] <= 60 < patch["right"]
    votes = expected.explain(10, 60)
    assert [n["image"] for n in answer["neighbors"]] == [vote.image_id for vote in votes]
    assert sum(n["weight"] for n in answer["neighbors"]) == pytest.approx(1, abs=1e-5)
    for neighbor in answer["neighbors"]:
        assert 0 <= neighbor["box"]["top"] < neighbor["box"]["bottom"] <= 1
        thumb = client.get(neighbor["thumbnail"])
        assert Image.open(io.BytesIO(thumb.content)).format == "JPEG"
    more = client.post("/v1/explain", json={"id": id, "row": 10, "col": 60, "k": 9}).json()
    assert len(more["neighbors"]) == 9


@pytest.mark.parametrize(
    ("change", "status"),
    [({"row": 48}, 422), ({"col": -1}, 422), ({"k": 0}, 422), ({"id": "x"}, 404), ({"more": 1}, 422)],
)
def test_what_cannot_be_explained(
    client: TestClient, photo: bytes, change: dict[str, Any], status: int
) -> None:
    id = client.post("/v1/segment", files={"image": photo}).json()["id"]
    answer = client.post("/v1/explain", json={"id": id, "row": 1, "col": 1, **change})
    assert answer.status_code == status
    assert answer.json()["error"]["message"]


def test_the_cache_keeps_no_more_than_it_may(serve: Any, make_photo: Any) -> None:
    with serve(cache_bytes=60_000) as client:
        ids = [
            client.post("/v1/segment", files={"image": make_photo(seed)}).json()["id"] for seed in range(12)
        ]
        cache = client.app.state.service.cache
        assert 0 < cache.bytes <= 60_000
        assert len(cache) < 12
        assert client.post(f"/v1/segment/{ids[-1]}").status_code == 200
        assert client.post(f"/v1/segment/{ids[0]}").status_code == 404
