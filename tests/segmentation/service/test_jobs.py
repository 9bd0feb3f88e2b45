from __future__ import annotations

import io
import json
import time
import zipfile
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from .test_segment import unpack


def files(photos: dict[str, bytes]) -> list[tuple[str, tuple[str, bytes]]]:
    return [("image", (name, content)) for name, content in photos.items()]


def wait_for(client: TestClient, job: str) -> dict[str, Any]:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        now: dict[str, Any] = client.get(f"/v1/jobs/{job}").json()
        if now["state"] != "running":
            return now
        time.sleep(0.01)
    raise AssertionError("the job does not end")


def test_a_job_gives_the_masks_that_its_photos_have(client: TestClient, make_photo: Any) -> None:
    photos = {f"../a/{seed}.png": make_photo(seed) for seed in range(60, 66)}
    started = client.post("/v1/jobs", files=files(photos))
    assert started.status_code == 202
    job = started.json()["job"]
    with client.stream("GET", f"/v1/jobs/{job}/events") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in stream.iter_lines() if line]
    told = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
    assert lines[-2] == "event: done"
    assert [each["completed"] for each in told] == sorted(each["completed"] for each in told)
    assert told[-1]["completed"] == told[-1]["total"] == 6 and not told[-1]["failed"]
    content = client.get(f"/v1/jobs/{job}/result").content
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert sorted(archive.namelist()) == [f"{seed}.png" for seed in range(60, 66)]
        for name, photo in photos.items():
            mask = np.array(Image.open(archive.open(name.rpartition("/")[2])))
            alone = client.post("/v1/segment", files={"image": photo}).json()
            assert (mask == unpack(alone["mask"])).all()
    assert client.delete(f"/v1/jobs/{job}").status_code == 200
    assert client.get(f"/v1/jobs/{job}").status_code == 404


def test_a_job_goes_on_past_bad_photos_and_makes_one_file_of_a_run(
    client: TestClient, make_photo: Any
) -> None:
    photos = [
        ("image", ("a.png", make_photo(1))),
        ("image", ("b.png", b"x")),
        ("image", ("a.png", make_photo(2))),
    ]
    job = client.post("/v1/jobs?format=coco-rle", files=photos).json()["job"]
    done = wait_for(client, job)
    assert [each["name"] for each in done["failed"]] == ["b.png"]
    with zipfile.ZipFile(io.BytesIO(client.get(f"/v1/jobs/{job}/result").content)) as archive:
        data = json.loads(archive.read("coco-rle.json"))
    assert sorted(image["file_name"] for image in data["images"]) == ["a-2.png", "a.png"]


@pytest.mark.parametrize("format", ["json", "overlay", "pdf"])
def test_formats_that_are_no_files(client: TestClient, photo: bytes, format: str) -> None:
    assert client.post(f"/v1/jobs?format={format}", files={"image": photo}).status_code == 400


def test_jobs_are_bounded(serve: Any, photo: bytes) -> None:
    with serve(jobs=2, job_images=2, job_bytes=2_000_000, max_bytes=1_000_000) as client:
        assert client.post("/v1/jobs", files=[("image", photo)] * 3).status_code == 400
        assert client.post("/v1/jobs", files={"image": bytes(4_000_000)}).status_code == 413
        assert client.post("/v1/jobs", files={"other": photo}).status_code == 400
        first = client.post("/v1/jobs", files={"image": photo}).json()["job"]
        assert client.get("/v1/jobs/none/result").status_code == 404
        wait_for(client, first)
        for _ in range(2):
            wait_for(client, client.post("/v1/jobs", files={"image": photo}).json()["job"])
        assert client.get(f"/v1/jobs/{first}").status_code == 404  # made room


def test_a_job_that_is_not_done_has_no_result(client: TestClient, make_photo: Any) -> None:
    service = client.app.state.service  # type: ignore[attr-defined]
    import threading

    go = threading.Event()
    describe = service.scheduler._describe

    def slow(photos: Any) -> Any:
        go.wait(20)
        return describe(photos)

    service.scheduler._describe = slow
    job = client.post("/v1/jobs", files={"image": make_photo(3)}).json()["job"]
    early = client.get(f"/v1/jobs/{job}/result")
    go.set()
    assert early.status_code == 409
    assert wait_for(client, job)["state"] == "done"
