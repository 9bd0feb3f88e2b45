from __future__ import annotations

import base64
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from segmentation.service.errors import ServiceError
from segmentation.service.fetch import photo_of
from segmentation.service.settings import LabelStudioSettings
from segmentation.service.studio import Interface

INTERFACE = """<View><Image name="img" value="$photo"/>
<BrushLabels name="tag" toName="img"><Label value="dark"/><Label value="bright"/></BrushLabels></View>"""


def data_uri(photo: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(photo).decode()}"


def box(label: str, x: float, width: float) -> dict[str, Any]:
    value = {"x": x, "y": 0, "width": width, "height": 100, "rotation": 0, "rectanglelabels": [label]}
    sizes = {"original_width": 70, "original_height": 48, "image_rotation": 0}
    return {"type": "rectanglelabels", "from_name": "tag", "to_name": "img", "value": value, **sizes}


def event(action: str, photo: bytes, results: list[Any], *, annotation: int = 5) -> dict[str, Any]:
    return {
        "action": action,
        "task": {"id": 3, "data": {"photo": data_uri(photo)}},
        "annotation": {"id": annotation, "result": results},
        "project": {"id": 1, "label_config": INTERFACE},
    }


class Studio(BaseHTTPRequestHandler):
    """A Label Studio that gives one photo, to whoever has the token, and leads astray."""

    photo = b""
    asked: list[tuple[str, str | None]]

    def do_GET(self) -> None:
        self.asked.append((self.path, self.headers.get("Authorization")))
        if self.path == "/leads/away":
            self.send_response(302)
            self.send_header("Location", "/data/upload/1/a.png")
            self.end_headers()
            return
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.photo)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def studio(photo: bytes) -> Iterator[tuple[str, list[tuple[str, str | None]]]]:
    asked: list[tuple[str, str | None]] = []
    handler = type("Given", (Studio,), {"photo": photo, "asked": asked})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    thread.join()
    server.server_close()


def test_it_is_up(client: TestClient) -> None:
    for path in ("/", "/health"):
        assert client.get(path).json() == {"status": "UP", "model_class": "Mycelia"}
    assert client.post("/setup", json={"project": "1.2"}).json()["model_version"].startswith("mycelia-")


def test_each_task_gets_its_prediction_in_order(client: TestClient, make_photo: Any) -> None:
    photos = [make_photo(seed) for seed in (1, 2)]
    tasks = [{"id": i, "data": {"photo": data_uri(p)}} for i, p in enumerate(photos)]
    tasks.insert(1, {"id": 9, "data": {"photo": "data:image/png;base64,bm8="}})
    body = {"tasks": tasks, "label_config": INTERFACE, "project": "1", "context": None}
    results = client.post("/predict", json=body).json()["results"]
    assert len(results) == 3
    assert results[1]["result"] == [] and results[1]["error"]
    for found in (results[0], results[2]):
        assert found["model_version"] == f"mycelia-{client.get('/v1/index').json()['version']}"
        assert 0 < found["score"] <= 1
        region = found["result"][0]
        assert (region["from_name"], region["to_name"], region["type"]) == ("tag", "img", "brushlabels")
        assert region["value"]["format"] == "rle" and region["value"]["rle"]
        assert region["original_width"] == 70


def test_polygons_where_the_project_asks_for_them(client: TestClient, photo: bytes) -> None:
    config = INTERFACE.replace("BrushLabels", "PolygonLabels")
    body = {"tasks": [{"data": {"photo": data_uri(photo)}}], "label_config": config}
    found = client.post("/predict", json=body).json()["results"][0]
    assert {region["type"] for region in found["result"]} == {"polygonlabels"}


@pytest.mark.parametrize("body", [[], {}, {"tasks": 3}, {"tasks": [1]}, {"tasks": [{}] * 65}])
def test_requests_that_make_no_sense(client: TestClient, body: Any) -> None:
    assert client.post("/predict", json=body).status_code == 400


def test_entities_in_an_interface_are_refused(client: TestClient) -> None:
    bomb = '<!DOCTYPE a [<!ENTITY b "bb">]><View>&b;</View>'
    assert client.post("/predict", json={"tasks": [], "label_config": bomb}).status_code == 400
    with pytest.raises(ServiceError):
        Interface.parse("<View>")
    assert Interface.parse(None) == Interface()


def test_an_annotation_is_learnt_changed_and_forgotten(client: TestClient, photo: bytes) -> None:
    before = client.get("/v1/index").json()
    answer = client.post("/webhook", json=event("ANNOTATION_CREATED", photo, [box("moss", 0, 50)]))
    assert answer.status_code == 201
    learnt = settled(client, 4)
    assert [info["name"] for info in client.get("/v1/classes").json()["classes"]][-1] == "moss"
    assert learnt[-1]["id"] == "label-studio-3-annotation-5" and set(learnt[-1]["classes"]) == {"moss"}

    client.post("/webhook", json=event("ANNOTATION_UPDATED", photo, [box("bright", 50, 50)]))
    changed = settled(client, 4, without=learnt[-1]["number"])
    assert set(changed[-1]["classes"]) == {"bright"}

    deleted = {"action": "ANNOTATIONS_DELETED", "annotations": [{"id": 5}], "project": {"id": 1}}
    assert client.post("/webhook", json=deleted).status_code == 201
    settled(client, 3)
    assert client.get("/v1/index").json()["rows"] == before["rows"]


def settled(client: TestClient, count: int, *, without: int = -1) -> list[dict[str, Any]]:
    """The images once there are so many: a webhook answers before a slow machine has learnt."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        images: list[dict[str, Any]] = client.get("/v1/images").json()["images"]
        if len(images) == count and all(image["number"] != without for image in images):
            return images
        time.sleep(0.01)
    raise AssertionError(images)


def test_other_events_change_nothing(client: TestClient, photo: bytes) -> None:
    before = client.get("/v1/index").json()
    for body in (event("TASK_CREATED", photo, []), {"action": None}, event("ANNOTATION_CREATED", photo, [])):
        assert client.post("/webhook", json=body).status_code == 201
    assert client.post("/webhook", json={"action": "ANNOTATION_CREATED"}).status_code == 400
    assert client.get("/v1/index").json() == before


def test_uploads_come_from_the_label_studio_given(serve: Any, studio: Any, photo: bytes) -> None:
    url, asked = studio
    with serve(label_studio=LabelStudioSettings(url, "secret-token")) as client:
        tasks = [{"data": {"image": "/data/upload/1/a.png"}}, {"data": {"image": f"{url}/data/b.png"}}]
        results = client.post("/predict", json={"tasks": tasks}).json()["results"]
        assert all(found["result"] for found in results)
        assert sorted(asked) == [
            ("/data/b.png", "Token secret-token"),
            ("/data/upload/1/a.png", "Token secret-token"),
        ]
        away = client.post("/predict", json={"tasks": [{"data": {"image": "/leads/away"}}]}).json()
        assert away["results"][0]["result"] == []
        assert asked[-1][0] == "/leads/away"
        assert "secret" not in str(away)


@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1:1/a.png",
        "http://169.254.169.254/latest/meta-data",
        "http://studio.example.evil.example/a.png",
        "http://studio.example@evil.example/a.png",
        "http://studio.example:81/a.png",
        "https://studio.example/a.png",
        "//evil.example/a.png",
        "/\\evil.example/a.png",
        "\\\\evil.example\\a.png",
        "file:///etc/passwd",
        "ftp://studio.example/a.png",
        "s3://bucket/a.png",
        "gopher://studio.example/x",
        "http://studio.example/a b\r\nX: y",
        "http://[::1/a.png",
        "a.png",
        "data:text/html;base64,AAAA",
    ],
)
def test_nothing_else_is_fetched(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(*_: object, **__: object) -> None:
        raise AssertionError("it was fetched")

    monkeypatch.setattr("segmentation.service.fetch._fetch", opened)
    with pytest.raises(ServiceError) as refused:
        photo_of(address, studio=LabelStudioSettings("http://studio.example", "t"), most=1000)
    assert refused.value.status in (400, 422)
    with pytest.raises(ServiceError):
        photo_of(address, studio=None, most=1000)


def test_a_data_uri_has_a_limit() -> None:
    uri = data_uri(bytes(2000))
    assert photo_of(uri, studio=None, most=2000) == bytes(2000)
    with pytest.raises(ServiceError) as refused:
        photo_of(data_uri(np.zeros(9000, np.uint8).tobytes()), studio=None, most=2000)
    assert refused.value.status == 413
