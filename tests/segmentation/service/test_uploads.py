"""Whatever is uploaded, the answer is a refusal or a result, and never a fault."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from segmentation.service.uploads import safe_name

from .conftest import encoded, picture


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_of(width: int, height: int, pixels: bytes = b"") -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def zip_bomb() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", bytes(20_000_000))
    return file.getvalue()


TEXT_FIELD = b'--x\r\nContent-Disposition: form-data; name="image"\r\n\r\ntext\r\n--x--'

HOSTILE: dict[str, tuple[bytes, int]] = {
    "empty": (b"", 415),
    "text": (b"hello", 415),
    "truncated": (encoded(picture())[:3000], 422),
    "truncated jpeg": (encoded(picture(), "JPEG")[:700], 422),
    "header alone": (encoded(picture())[:20], 422),
    "huge header": (png_of(50_000, 50_000), 413),
    "wide header": (png_of(2**31 - 1, 2**31 - 1), 413),
    "no pixels": (png_of(40, 40), 422),
    "a bomb of zeros": (png_of(30_000, 30_000, zlib.compress(bytes(10_000_000))), 413),
    "zip bomb": (zip_bomb(), 415),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) (r) file\n", 415),
    "svg": (b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>', 415),
    "pdf": (b"%PDF-1.4\n1 0 obj\n<<>>\n", 415),
    "gif that is a script": (b"GIF89a/*" + b"\x00" * 4 + b"*/=1;alert(1)", 422),
    "text bomb": (
        png_of(9, 9)[:33] + chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(80_000_000))) + png_of(9, 9)[33:],
        422,
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("raw", [False, True])
def test_a_hostile_upload_is_refused(client: TestClient, name: str, raw: bool) -> None:
    content, status = HOSTILE[name]
    if raw:
        answer = client.post("/v1/segment", content=content, headers={"Content-Type": "image/png"})
    else:
        answer = client.post("/v1/segment", files={"image": ("a.png", content, "image/png")})
    assert answer.status_code in ({status, 415, 422} if status != 413 else {413}), answer.text
    assert "/tmp" not in answer.text and "Traceback" not in answer.text
    assert client.get("/readyz").status_code == 200


def test_an_image_with_something_behind_it_is_the_image_alone(
    client: TestClient, photo: bytes, mask: bytes
) -> None:
    polyglot = photo + zip_bomb()
    clean = client.post("/v1/segment", files={"image": photo}).json()
    found = client.post("/v1/segment", files={"image": ("a.html", polyglot, "text/html")}).json()
    assert found["mask"] == clean["mask"]
    number = client.post("/v1/images", files={"image": polyglot, "mask": mask}).json()["number"]
    thumb = client.get(f"/v1/images/{number}/thumbnail")
    assert thumb.headers["content-type"] == "image/jpeg"
    assert b"PK" not in thumb.content[-200:]


@pytest.mark.parametrize(
    "name",
    ["../../../etc/cron.d/x.png", "..\\..\\x.png", "/abs/x.png", "a\x00b.png", "x" * 5000 + ".png", "..", ""],
)
def test_a_file_name_leads_nowhere(
    client: TestClient, photo: bytes, mask: bytes, name: str, tmp_path: Path
) -> None:
    before = set(tmp_path.rglob("*"))
    answer = client.post(
        "/v1/images", files={"image": (name or "n", photo), "mask": ("m", mask)}, data={"name": name}
    )
    assert answer.status_code in (201, 400), answer.text
    if answer.status_code == 201:
        id = client.get(f"/v1/images/{answer.json()['number']}").json()["id"]
        assert "/" not in id and "\\" not in id and "\x00" not in id and 0 < len(id) <= 100
    inside = tmp_path / "my.index"
    assert all(path.is_relative_to(inside) for path in set(tmp_path.rglob("*")) - before)


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("../../etc/passwd", "passwd"),
        ("street 1.jpg", "street_1.jpg"),
        (".bashrc", "bashrc"),
        ("a;rm -rf $HOME.png", "a_rm_-rf__HOME.png"),
        ("\u202egnp.exe", "gnp.exe"),
        ("straße.png", "straße.png"),
        (None, "photo"),
        ("..", "photo"),
    ],
)
def test_names_are_made_harmless(name: str | None, safe: str) -> None:
    assert safe_name(name) == safe


def test_too_many_bytes_are_not_read(serve: Any, photo: bytes) -> None:
    with serve(max_bytes=2000) as client:
        read = 0

        def endless() -> Any:
            nonlocal read
            while read < 50_000_000:
                read += 10_000
                yield bytes(10_000)

        raw = client.post("/v1/segment", content=photo, headers={"Content-Type": "image/png"})
        form = client.post("/v1/segment", files={"image": photo})
        stream = client.post("/v1/segment", content=endless(), headers={"Content-Type": "image/png"})
        for answer in (raw, form, stream):
            assert answer.status_code == 413
            assert "2,000" in answer.json()["error"]["message"]


def test_pixels_are_counted_before_they_are_decoded(
    serve: Any, photo: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def decoded(*_: object) -> None:
        raise AssertionError("it was decoded")

    monkeypatch.setattr("segmentation.service.uploads.read_image", decoded)
    with serve(max_pixels=1000) as client:
        answer = client.post("/v1/segment", files={"image": photo})
        assert answer.status_code == 413
        assert "48 x 70" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"--x\r\nbroken", "multipart/form-data; boundary=x", 400),
        (b"", "multipart/form-data", 400),
        (b"a=b", "application/x-www-form-urlencoded", 415),
        (b"{}", "application/json", 415),
        (TEXT_FIELD, "multipart/form-data; boundary=x", 400),
    ],
)
def test_bodies_of_other_kinds(client: TestClient, content: bytes, kind: str, status: int) -> None:
    answer = client.post("/v1/segment", content=content, headers={"Content-Type": kind})
    assert answer.status_code == status, answer.text
    assert set(answer.json()["error"]) == {"code", "message"}


def test_more_files_than_asked_for(client: TestClient, photo: bytes) -> None:
    answer = client.post("/v1/segment", files=[("image", photo), ("image", photo)])
    assert answer.status_code == 400


def test_a_mask_that_is_no_mask(client: TestClient, photo: bytes) -> None:
    jpeg = encoded(np.zeros((48, 70), np.uint8), "JPEG")
    answers = [
        client.post("/v1/images", files={"image": photo, "mask": mask})
        for mask in (jpeg, b"x", encoded(picture()), encoded(picture())[:900])
    ]
    assert [answer.status_code for answer in answers] == [422, 415, 422, 422]
    assert client.get("/v1/index").json()["images"] == 3


def test_orientation_is_applied(client: TestClient) -> None:
    file, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(picture()).save(file, "JPEG", exif=exif)
    answer = client.post("/v1/segment", files={"image": file.getvalue()}).json()
    assert (answer["height"], answer["width"]) == (70, 48)
