from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from segmentation.service.routes import page


def test_it_says_what_it_serves(client: TestClient) -> None:
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").json()["status"] == "ok"
    index = client.get("/v1/index").json()
    assert (index["name"], index["images"], index["engine"]) == ("my.index", 3, "exact")
    assert index["rows"] > 0
    assert index["writable"] is True
    assert index["limits"] == {"bytes": 32 * 2**20, "pixels": 40_000_000}
    assert {"json", "overlay", "png", "coco-rle", "labelme"} <= {each["name"] for each in index["formats"]}
    assert client.get("/v1/classes").json()["classes"] == index["classes"]


def test_numbers_for_prometheus(client: TestClient, photo: bytes) -> None:
    client.post("/v1/segment", files={"image": photo})
    client.get("/no/such/page")
    text = client.get("/metrics").text
    assert 'mycelia_requests_total{method="POST",route="/v1/segment",status="200"} 1.0' in text
    assert "no/such" not in text  # whoever asks makes no new numbers
    assert "mycelia_batch_photos_sum 1.0" in text
    assert "mycelia_cached_photos 1.0" in text


def test_the_interface_is_described(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    assert {"/v1/segment", "/v1/teach", "/v1/images/{number}", "/v1/jobs", "/predict"} <= set(paths)
    body = paths["/v1/segment"]["post"]["requestBody"]["content"]
    assert "multipart/form-data" in body


def test_the_page_and_its_files_alone_are_sent(
    client: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "segmentation").mkdir()
    monkeypatch.setattr(page, "page_files", lambda: {"index.html": b"<p>page</p>", "app.js": b"1"})
    found = client.get("/", headers={"Accept": "text/html,*/*"})
    assert found.text == "<p>page</p>"
    assert found.headers["content-type"].startswith("text/html")
    assert client.get("/assets/app.js").headers["content-type"].startswith("text/javascript")
    for name in ("../app.py", "%2e%2e/app.py", "/etc/passwd", "app.py", "..%2f..%2fsettings.py"):
        assert client.get(f"/assets/{name}").status_code == 404
    assert client.get("/", headers={"Accept": "application/json"}).json()["status"] == "UP"


def test_every_answer_has_the_headers(client: TestClient) -> None:
    for path in ("/", "/v1/index", "/nowhere", "/v1/images/77"):
        headers = client.get(path).headers
        assert headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'")
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["x-request-id"]


def test_errors_have_one_shape(client: TestClient) -> None:
    for answer in (
        client.get("/nowhere"),
        client.delete("/v1/index"),
        client.get("/v1/images?limit=0"),
        client.post("/v1/explain", json={"id": 3}),
        client.post("/v1/explain", content=b"{", headers={"Content-Type": "application/json"}),
    ):
        assert 400 <= answer.status_code < 500
        error: dict[str, Any] = answer.json()["error"]
        assert set(error) == {"code", "message"}
        assert error["message"]


def test_a_fault_of_ours_tells_nothing(client: TestClient, photo: bytes) -> None:
    def broken(photos: object) -> None:
        raise RuntimeError("secret at /home/somebody/thing.py")

    client.app.state.service.scheduler._describe = broken  # type: ignore[attr-defined]
    answer = client.post("/v1/segment", files={"image": photo})
    assert answer.status_code == 500
    assert "secret" not in answer.text and "/home" not in answer.text and "Traceback" not in answer.text
    assert answer.headers["x-request-id"] in answer.json()["error"]["message"]
