from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from retrieval.errors import ConfigError
from segmentation.segmenter import Segmenter
from segmentation.service.app import create_app
from segmentation.service.security import Keys, is_loopback, role_for
from segmentation.service.settings import ServiceSettings


def digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


KEYS = Keys.parse(f"read:{digest('reader')}\nwrite:{digest('writer')}  # the painters", where="here")


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def test_keys_and_roles(serve: Any, photo: bytes, mask: bytes) -> None:
    with serve(keys=KEYS) as client:
        wrong = (bearer("wrong"), bearer(""), bearer(digest("reader")), {"Authorization": "Basic !"})
        for headers in ({}, *wrong):
            answer = client.get("/v1/index", headers=headers)
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"].startswith("Bearer")
            assert client.post("/v1/segment", files={"image": photo}, headers=headers).status_code == 401
            assert client.get("/metrics", headers=headers).status_code == 401
        assert client.get("/v1/index", headers=bearer("reader")).status_code == 200
        assert client.post("/v1/segment", files={"image": photo}, headers=bearer("reader")).status_code == 200
        files = {"image": photo, "mask": mask}
        for answer in (
            client.post("/v1/images", files=files, headers=bearer("reader")),
            client.put("/v1/images/0", files=files, headers=bearer("reader")),
            client.delete("/v1/images/0", headers=bearer("reader")),
            client.post("/v1/teach", json={}, headers=bearer("reader")),
            client.post("/webhook", json={}, headers=bearer("reader")),
        ):
            assert answer.status_code == 403
            assert answer.json()["error"]["code"] == "read_only_key"
        assert client.post("/v1/images", files=files, headers=bearer("writer")).status_code == 201
        basic = base64.b64encode(b"anybody:writer").decode()
        assert client.get("/v1/index", headers={"Authorization": f"Basic {basic}"}).status_code == 200
        for path in ("/healthz", "/readyz", "/", "/health"):
            assert client.get(path).status_code == 200


def test_every_route_that_changes_needs_the_role(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    changing = {
        (method.upper(), path)
        for path, methods in paths.items()
        for method in methods
        if role_for(method.upper(), path) == "write"
    }
    assert changing == {
        ("POST", "/v1/images"),
        ("PUT", "/v1/images/{number}"),
        ("DELETE", "/v1/images/{number}"),
        ("POST", "/v1/teach"),
        ("POST", "/webhook"),
    }


def test_a_read_only_service_changes_nothing(serve: Any, photo: bytes, mask: bytes) -> None:
    with serve(read_only=True) as client:
        assert client.get("/v1/index").json()["writable"] is False
        answer = client.post("/v1/images", files={"image": photo, "mask": mask})
        assert answer.status_code == 403
        assert client.delete("/v1/images/0").status_code == 403


def test_off_loopback_keys_are_required(index: Path) -> None:
    def open_it() -> Segmenter:
        return Segmenter.open(index)

    with pytest.raises(ConfigError, match="needs keys"):
        create_app(open_it, index, settings=ServiceSettings(host="0.0.0.0"))
    create_app(open_it, index, settings=ServiceSettings(host="0.0.0.0"), keys=KEYS)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("localhost", True),
        ("::1", True),
        ("127.9.9.9", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("example.org", False),
        ("", False),
    ],
)
def test_loopback(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("127.0.0.1:8000", 200),
        ("[::1]:8000", 200),
        ("masks.example.org", 200),
        ("evil.example", 400),
        ("localhost.evil.example", 400),
        ("", 400),
        ("10.0.0.1", 400),
        ("[", 400),
    ],
)
def test_names_of_other_hosts_are_refused(serve: Any, host: str, status: int) -> None:
    with serve(hosts=("masks.example.org",)) as client:
        assert client.get("/v1/classes", headers={"Host": host}).status_code == status


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        (None, 200),
        ("http://localhost", 200),
        ("https://page.example", 200),
        ("https://evil.example", 403),
        ("null", 403),
        ("http://localhost:9999", 403),
    ],
)
def test_pages_of_other_origins_upload_nothing(
    serve: Any, photo: bytes, origin: str | None, status: int
) -> None:
    with serve(origins=("https://page.example",)) as client:
        headers = {} if origin is None else {"Origin": origin}
        assert client.post("/v1/segment", files={"image": photo}, headers=headers).status_code == status
        allowed = client.get("/v1/classes", headers=headers).headers.get("access-control-allow-origin")
        assert allowed == (origin if origin == "https://page.example" else None)


def test_without_origins_no_page_from_elsewhere_may_read(client: TestClient) -> None:
    answer = client.get("/v1/classes", headers={"Origin": "https://evil.example"})
    assert "access-control-allow-origin" not in answer.headers
    preflight = client.options(
        "/v1/teach",
        headers={"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"},
    )
    assert preflight.status_code >= 400


@pytest.mark.parametrize("text", ["admin:" + "a" * 64, "read:abc", "read", "secret-key", "write:" + "G" * 64])
def test_keys_that_are_none(text: str) -> None:
    with pytest.raises(ConfigError, match="entry 1 of here") as error:
        Keys.parse(text, where="here")
    assert "secret-key" not in str(error.value)


def test_keys_from_a_file_and_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"# two\nread:{digest('a')}\n\nwrite:{digest('b')}\n")
    assert Keys.load(file, {}).role_of("b") == "write"
    found = Keys.load(None, {"MYCELIA_KEYS": f"read:{digest('a')},write:{digest('b')}"})
    assert (found.role_of("a"), found.role_of("b"), found.role_of("c")) == ("read", "write", None)
    assert not Keys.load(None, {})
    with pytest.raises(ConfigError, match="cannot be read"):
        Keys.load(tmp_path / "none", {})
    assert "reader" not in repr(KEYS)
