from __future__ import annotations

import base64
import io
import threading
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from retrieval.folder import IndexFolder
from retrieval.store.lock import Lock

from .test_segment import unpack


def pack(array: np.ndarray) -> dict[str, Any]:
    data = base64.b64encode(zlib.compress(array.astype(np.uint8).tobytes())).decode()
    return {"encoding": "deflate", "dtype": "uint8", "shape": list(array.shape), "data": data}


def add(client: TestClient, photo: bytes, mask: bytes, name: str | None = None) -> Any:
    return client.post(
        "/v1/images",
        files={"image": ("a.png", photo), "mask": ("m.png", mask)},
        data={} if name is None else {"name": name},
    )


def test_the_images_are_listed(client: TestClient) -> None:
    listed = client.get("/v1/images").json()
    assert listed["total"] == 3
    for image in listed["images"]:
        assert not image["added"] and not image["taught"]
        assert image["patches"] > 0
        assert sum(image["classes"].values()) == pytest.approx(1, abs=1e-3)
        assert set(image["classes"]) == {"dark", "bright"}
    assert [i["number"] for i in client.get("/v1/images?offset=1&limit=1").json()["images"]] == [1]
    assert client.get("/v1/images?class=dark").json()["total"] == 3
    assert client.get("/v1/images?class=cat").status_code == 400
    assert client.get("/v1/images/2").json()["id"] == "photo2"
    assert client.get("/v1/images/9").status_code == 404
    assert client.get("/v1/images/9/thumbnail").status_code == 404


def test_an_image_comes_is_replaced_and_goes(client: TestClient, photo: bytes, mask: bytes) -> None:
    before = client.get("/v1/index").json()
    added = add(client, photo, mask, "new")
    assert added.status_code == 201
    number, version = added.json()["number"], added.json()["version"]
    now = client.get("/v1/index").json()
    assert now["version"] == version != before["version"]
    assert now["rows"] == before["rows"] + added.json()["patches"]
    entry = client.get(f"/v1/images/{number}").json()
    assert (entry["id"], entry["added"], entry["taught"]) == ("new", True, False)
    assert Image.open(io.BytesIO(client.get(entry["thumbnail"]).content)).size == (70, 48)
    # the very photo is its own nearest neighbour now
    id = client.post("/v1/segment", files={"image": photo}).json()["id"]
    nearest = client.post("/v1/explain", json={"id": id, "row": 5, "col": 5}).json()["neighbors"][0]
    assert (nearest["number"], nearest["image"]) == (number, "new")

    all_dark = io.BytesIO()
    Image.new("L", (70, 48), 0).save(all_dark, "PNG")
    put = client.put(f"/v1/images/{number}", files={"image": photo, "mask": all_dark.getvalue()}).json()
    assert client.get(f"/v1/images/{number}").status_code == 404
    assert client.get(f"/v1/images/{put['number']}").json()["classes"] == {"dark": 1.0}

    gone = client.delete(f"/v1/images/{put['number']}").json()
    assert gone["removed"] == put["patches"]
    assert client.get("/v1/index").json()["rows"] == before["rows"]
    assert client.delete(f"/v1/images/{put['number']}").status_code == 404


def test_a_name_that_is_taken_is_a_conflict(client: TestClient, photo: bytes, mask: bytes) -> None:
    assert add(client, photo, mask, "photo1").status_code == 409
    assert client.get("/v1/index").json()["images"] == 3


def test_masks_that_do_not_fit(client: TestClient, photo: bytes, make_photo: Any) -> None:
    def of(array: np.ndarray) -> bytes:
        file = io.BytesIO()
        Image.fromarray(array.astype(np.uint8)).save(file, "PNG")
        return file.getvalue()

    unknown, small, empty = np.full((48, 70), 7), np.zeros((10, 10)), np.full((48, 70), 255)
    for mask in (unknown, small, empty):
        answer = add(client, photo, of(mask))
        assert answer.status_code == 422, answer.text
        assert "/tmp" not in answer.text
    assert client.get("/v1/index").json()["images"] == 3


def test_the_last_image_stays(client: TestClient) -> None:
    assert [client.delete(f"/v1/images/{number}").status_code for number in range(3)] == [200, 200, 409]
    assert client.get("/v1/index").json()["images"] == 1


def test_what_is_painted_is_learnt_and_can_be_undone(client: TestClient, photo: bytes) -> None:
    first = client.post("/v1/segment", files={"image": photo}).json()
    painted = np.full((48, 70), 255)
    painted[:24, :35] = 1
    taught = client.post(
        "/v1/teach", json={"id": first["id"], "classes": ["dark", "moss"], "mask": pack(painted)}
    ).json()
    assert taught["classes"] == ["dark", "bright", "moss"]
    assert taught["patches"] > 0
    after = client.post(f"/v1/segment/{first['id']}").json()
    assert after["version"] == taught["version"]
    columns = unpack(after["mask"])
    assert (columns[:20, :30] == 2).mean() > 0.5
    assert not (unpack(first["mask"]) == 2).any()
    entry = client.get(f"/v1/images/{taught['number']}").json()
    assert (entry["taught"], entry["added"], entry["classes"]) == (True, True, {"moss": 1.0})
    assert Image.open(io.BytesIO(client.get(entry["thumbnail"]).content)).format == "JPEG"

    client.delete(f"/v1/images/{taught['number']}")
    undone = client.post(f"/v1/segment/{first['id']}").json()
    assert undone["mask"]["data"] == first["mask"]["data"]


def test_teaching_twice_is_two_images(client: TestClient, photo: bytes) -> None:
    id = client.post("/v1/segment", files={"image": photo}).json()["id"]
    painted = np.full((48, 70), 255)
    painted[:, :10] = 0
    body = {"id": id, "classes": ["bright"], "mask": pack(painted)}
    numbers = [client.post("/v1/teach", json=body).json()["number"] for _ in range(2)]
    assert numbers == [3, 4]


@pytest.mark.parametrize(
    ("mask", "classes", "status"),
    [
        (np.full((48, 70), 255), ["dark"], 422),
        (np.zeros((48, 71)), ["dark"], 400),
        (np.full((48, 70), 1), ["dark"], 400),
        (np.zeros((48, 70)), ["dark", "dark"], 422),
        (np.zeros((48, 70)), ["\n"], 422),
        (np.zeros((48, 70)), [], 422),
    ],
)
def test_what_cannot_be_learnt(
    client: TestClient, photo: bytes, mask: np.ndarray, classes: list[str], status: int
) -> None:
    id = client.post("/v1/segment", files={"image": photo}).json()["id"]
    answer = client.post("/v1/teach", json={"id": id, "classes": classes, "mask": pack(mask)})
    assert answer.status_code == status, answer.text
    assert client.get("/v1/index").json()["images"] == 3


def test_a_mask_that_explodes_is_not_inflated(client: TestClient, photo: bytes) -> None:
    id = client.post("/v1/segment", files={"image": photo}).json()["id"]
    bomb = base64.b64encode(zlib.compress(bytes(50_000_000))).decode()
    mask = {"encoding": "deflate", "dtype": "uint8", "shape": [48, 70], "data": bomb}
    answer = client.post("/v1/teach", json={"id": id, "classes": ["dark"], "mask": mask})
    assert answer.status_code == 400
    huge = {**mask, "shape": [100_000, 100_000]}
    assert client.post("/v1/teach", json={"id": id, "classes": ["dark"], "mask": huge}).status_code == 413


def test_changes_of_another_process_are_seen(
    client: TestClient, index: Path, make_photo: Callable[..., bytes]
) -> None:
    from retrieval.edit.remove import remove_images

    before = client.get("/v1/index").json()
    remove_images(index, ["photo0"])
    after = client.get("/v1/index").json()
    assert after["rows"] < before["rows"]
    assert after["version"] != before["version"]
    assert client.get("/v1/images").json()["total"] == 2


def test_an_index_that_another_process_changes_is_busy(
    client: TestClient, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("retrieval.edit.change.Lock.acquire", _refuse)
    answer = client.delete("/v1/images/0")
    assert answer.status_code == 503
    assert answer.headers["retry-after"]
    assert str(index) not in answer.text
    assert client.get("/v1/images/0").status_code == 200


def _refuse(lock: Lock, what: str, *, wait: float = 0) -> None:
    from retrieval.errors import IndexBusyError

    raise IndexBusyError(f"another process began to {what}")


def test_readers_see_whole_states_while_others_write(
    client: TestClient, index: Path, make_photo: Callable[..., bytes], mask: bytes
) -> None:
    """Rows and images of an answer belong together, and the version says which: one state, one pair."""
    pairs: dict[str, set[tuple[int, int]]] = {}
    done, lock = threading.Event(), threading.Lock()
    photo = make_photo(50)
    id = client.post("/v1/segment", files={"image": photo}).json()["id"]

    def read() -> int:
        count = 0
        while not done.is_set():
            answer = client.get("/v1/index").json()
            listed = client.get("/v1/images?limit=100").json()
            assert sum(image["patches"] for image in listed["images"]) == 16 * listed["total"]
            assert client.post(f"/v1/segment/{id}").status_code == 200
            with lock:
                pairs.setdefault(answer["version"], set()).add((answer["rows"], answer["images"]))
                pairs.setdefault(listed["version"], set()).add((16 * listed["total"], listed["total"]))
            count += 1
        return count

    with ThreadPoolExecutor(3) as pool:
        readers = [pool.submit(read) for _ in range(3)]
        for seed in range(4):
            number = add(client, make_photo(200 + seed), mask, f"w{seed}").json()["number"]
            if seed % 2:
                assert client.delete(f"/v1/images/{number}").status_code == 200
        done.set()
        assert sum(reader.result() for reader in readers) > 3
    assert all(len(found) == 1 for found in pairs.values()), pairs
    assert len(pairs) > 1
    assert IndexFolder.open(index).live_rows == 16 * 5
