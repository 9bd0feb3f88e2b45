"""What a client may send to each part of the service, and to none."""

from __future__ import annotations

import base64
import zlib
from random import Random
from typing import Any
from urllib.parse import quote

import numpy as np

from segmentation.export import FORMATS

from .. import wild
from ..case import Case
from .pictures import encoded

Request = tuple[str, str, dict[str, Any]]

_INTERFACE = """<View><Image name="img" value="$photo"/><BrushLabels name="tag" toName="img">
<Label value="dark"/><Label value="bright"/></BrushLabels></View>"""


def wild_request(case: Case, ids: list[str]) -> Request:
    """Method, path and what else a client sends; ``ids`` are of photos that the service has seen."""
    random = case.random
    makes = (_segment, _segment, _again, _explain, _teach, _images, _images, _jobs, _label_studio, _anything)
    method, path, options = random.choice(makes)(case, ids)
    if random.random() < 0.1:
        method = random.choice(["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "TRACE", "x"])
    headers = dict(options.pop("headers", {}))
    if random.random() < 0.25:
        name = random.choice(
            [
                "Host",
                "Origin",
                "Content-Length",
                "Content-Type",
                "Accept",
                "Authorization",
                "Transfer-Encoding",
                "Expect",
                "X",
                "Range",
            ]
        )
        headers[name] = random.choice(
            [
                *(
                    "",
                    "x",
                    "localhost",
                    "evil.example",
                    "http://evil.example",
                    "-1",
                    "9" * 30,
                    "0",
                    "multipart/form-data",
                ),
                *(
                    "multipart/form-data; boundary=" + "x" * 300,
                    "application/json",
                    "image/png",
                    "text/html",
                    "*/*;q=x",
                    "chunked",
                ),
                *(
                    "Basic !!!",
                    "Bearer " + "x" * 5000,
                    "Basic " + "é" * 3,
                    "application/json; charset=utf-99",
                    "²",
                    "1e3",
                    "null",
                    "[::1",
                ),
            ]
        )
    return method, path, {**options, "headers": headers}


def _photo(case: Case) -> bytes:
    if case.random.random() < 0.5:
        return case.path(case.random.choice(["photo.png", "photo.jpg"])).read_bytes()
    return encoded(case)[0][:3_000_000]


def _query(random: Random, **known: list[str]) -> str:
    words = []
    for name, values in known.items():
        if random.random() < 0.6:
            word = random.choice([*values, wild.text(random), str(_short(random))])
            words.append(f"{name}={quote(word.encode(errors='replace'))}")
    return "?" + "&".join(words) if words else ""


def _short(random: Random) -> Any:
    value = wild.number(random)
    return value if not isinstance(value, int) or abs(value) < 10**300 else "9" * 5000


def _segment(case: Case, ids: list[str]) -> Request:
    random = case.random
    formats = [format.name for format in FORMATS] + ["json", "png", "overlay", "all"]
    path = "/v1/segment" + _query(random, format=formats, min_confidence=["0.5", "1", "nan", "2"])
    return "POST", path, _upload(case, {"image": _photo(case)})


def _upload(case: Case, files: dict[str, bytes]) -> dict[str, Any]:
    random, what = case.random, case.random.randrange(8)
    names = ["a.png", "../a.png", "", "a\nb", "x" * 5000, "é", "/etc/passwd", "a\\b", 'a"b', "con", "a.png/"]
    if what == 0:
        return {
            "content": next(iter(files.values())),
            "headers": {
                "Content-Type": random.choice(
                    ["image/png", "image/x", "application/octet-stream", "text/plain"]
                )
            },
        }
    if what == 1:
        return {
            "content": random.randbytes(50),
            "headers": {"Content-Type": "multipart/form-data; boundary=x"},
        }
    if what == 2:
        return {
            "content": b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
            + b"y" * 99,
            "headers": {"Content-Type": "multipart/form-data; boundary=x"},
        }
    data = {
        random.choice(["name", "classes", "image", "x"]): wild.text(random)
        for _ in range(random.randrange(3))
    }
    form = [
        (random.choice([name, name, name, "x"]), (random.choice(names), content))
        for name, content in files.items()
    ]
    return {"files": form * random.choice([1, 1, 1, 2, 40]), "data": data}


def _id(case: Case, ids: list[str]) -> str:
    return str(
        case.random.choice(
            [
                *ids,
                "0" * 32,
                "x",
                "..",
                "%2e%2e",
                "",
                "a" * 5000,
                "é",
                quote(wild.text(case.random).encode(errors="replace")),
            ]
        )
    )


def _again(case: Case, ids: list[str]) -> Request:
    return (
        "POST",
        f"/v1/segment/{_id(case, ids)}"
        + _query(case.random, format=["json", "png", "coco"], min_confidence=["0.5"]),
        {},
    )


def _json(case: Case, body: dict[str, Any]) -> dict[str, Any]:
    random = case.random
    if random.random() < 0.6:
        body = wild.changed_json(random, body)
    content = wild.dumped(body)
    if random.random() < 0.15:
        content = wild.changed_text(random, content)
    return {"content": content[:3_000_000], "headers": {"Content-Type": "application/json"}}


def _explain(case: Case, ids: list[str]) -> Request:
    random = case.random
    body = {
        "id": _id(case, ids)[:64],
        "row": random.choice([0, 5, -1, _short(random)]),
        "col": random.choice([0, 5, 10**9]),
        "k": random.choice([None, 3, 1000]),
    }
    return "POST", "/v1/explain", _json(case, body)


def _teach(case: Case, ids: list[str]) -> Request:
    random = case.random
    shape = random.choice([(48, 70), (48, 70), (1, 1), (70, 48), (0, 0)])
    mask = np.full(shape, 255, np.uint8)
    mask[: shape[0] // 2] = random.choice([0, 1, 7])
    packed = zlib.compress(
        mask.tobytes() if random.random() < 0.8 else b"\0" * random.choice([0, 1, 5_000_000])
    )
    body = {
        "id": _id(case, ids)[:64],
        "classes": random.choice(
            [
                ["dark", "bright"],
                ["dark"],
                ["new"],
                ["dark", "x" * 100],
                ["a", "a"],
                [f"c{n}" for n in range(255)],
            ]
        ),
        "mask": {
            "encoding": "deflate",
            "dtype": "uint8",
            "shape": list(shape),
            "data": base64.b64encode(packed).decode(),
        },
    }
    return "POST", "/v1/teach", _json(case, body)


def _images(case: Case, ids: list[str]) -> Request:
    random, what = case.random, case.random.randrange(6)
    number = random.choice(
        [
            "0",
            "1",
            "2",
            "3",
            "9",
            "-1",
            "x",
            "1.5",
            "9" * 30,
            "²",
            "0x1",
            quote(wild.text(random).encode(errors="replace")),
        ]
    )
    if what == 0:
        return (
            "GET",
            "/v1/images"
            + _query(random, offset=["0", "1", "-1"], limit=["1", "0", "501"], **{"class": ["dark", "cat"]}),
            {},
        )
    if what == 1:
        return "GET", f"/v1/images/{number}" + random.choice(["", "/thumbnail", "/x"]), {}
    if what == 2 and random.random() < 0.3:
        return "DELETE", f"/v1/images/{number}", {}
    mask = (
        case.path("mask.png").read_bytes()
        if random.random() < 0.5
        else encoded(case, mask=True)[0][:3_000_000]
    )
    upload = _upload(case, {"image": _photo(case), "mask": mask})
    return (
        ("PUT", f"/v1/images/{number}", upload) if random.random() < 0.4 else ("POST", "/v1/images", upload)
    )


def _jobs(case: Case, ids: list[str]) -> Request:
    random, what = case.random, case.random.randrange(4)
    if what == 0:
        return (
            "POST",
            "/v1/jobs" + _query(random, format=["png", "coco", "json"]),
            _upload(case, {"images": _photo(case)}),
        )
    ending = random.choice(["", "/result", "/x"])  # of /events there is no end while it runs
    return random.choice(["GET", "DELETE"]), f"/v1/jobs/{_id(case, ids)}{ending}", {}


def _label_studio(case: Case, ids: list[str]) -> Request:
    random = case.random
    photo = f"data:image/png;base64,{base64.b64encode(_photo(case)[:100_000]).decode()}"
    photo = random.choice(
        [
            photo,
            photo,
            "/data/upload/1.png",
            "http://127.0.0.1:9/x",
            "file:///etc/passwd",
            "data:image/png;base64,!",
            "",
        ]
    )
    task = {"id": 3, "data": {"photo": photo}}
    value = {
        "x": 0,
        "y": 0,
        "width": random.choice([50, 1e9, -5, 0]),
        "height": 100,
        "rotation": random.choice([0, 45]),
        "rectanglelabels": ["dark"],
    }
    sizes = {"original_width": random.choice([70, 0, 10**9]), "original_height": 48, "image_rotation": 0}
    brush = {
        "format": "rle",
        "rle": [random.randrange(256) for _ in range(random.choice([0, 5, 60]))],
        "brushlabels": ["dark"],
    }
    kinds = [("rectanglelabels", value), ("brushlabels", brush)]
    results = [
        {"type": kind, "from_name": "tag", "to_name": "img", "value": each, **sizes}
        for kind, each in random.sample(kinds, 1)
    ]
    if random.random() < 0.4:
        return (
            "POST",
            "/predict",
            _json(case, {"tasks": [task], "label_config": _INTERFACE, "project": "1.2", "params": {}}),
        )
    if random.random() < 0.2:
        schema = random.choice(
            [_INTERFACE, "<View>", "", "<!DOCTYPE x [<!ENTITY a 'x'>]><View>&a;</View>", "<a>" * 3000]
        )
        return "POST", "/setup", _json(case, {"project": "1", "schema": schema})
    action = random.choice(["ANNOTATION_CREATED", "ANNOTATION_UPDATED", "ANNOTATIONS_DELETED", "X"])
    event = {
        "action": action,
        "task": task,
        "annotation": {"id": 5, "result": results},
        "project": {"id": 1, "label_config": _INTERFACE},
    }
    return "POST", "/webhook", _json(case, event)


def _anything(case: Case, ids: list[str]) -> Request:
    random = case.random
    known = [
        "/",
        "/health",
        "/healthz",
        "/readyz",
        "/metrics",
        "/v1/index",
        "/v1/classes",
        "/v1/map",
        "/v1/suspicious?limit=3",
        "/openapi.json",
    ]
    odd = [
        "/assets/../app.py",
        "/assets/%2e%2e/app.py",
        "/assets//etc/passwd",
        "/assets/\0",
        "/v1/suspicious?limit=x",
        "/v1//index",
        "//x",
        "/v1/index/",
        "/%ff",
        "/v1/map?x=" + "y" * 9000,
    ]
    return "GET", random.choice([*known, *odd, "/" + quote(wild.text(random).encode(errors="replace"))]), {}
