from __future__ import annotations

import numpy as np
import pytest
from starlette.testclient import TestClient

from segmentation.service.survey import principal_plane

from .conftest import encoded, half_mask


def test_the_map_shows_every_patch_of_a_small_memory(client: TestClient) -> None:
    answer = client.get("/v1/map").json()
    assert answer["method"] == "pca"
    assert len(answer["points"]) == client.get("/v1/index").json()["rows"]
    for point in answer["points"]:
        assert -1 <= point["x"] <= 1 and -1 <= point["y"] <= 1
        assert point["column"] in (0, 1) and point["number"] in (0, 1, 2)
    assert {(p["number"], p["row"], p["col"]) for p in answer["points"]}.__len__() == len(answer["points"])


def test_the_plane_is_that_of_the_two_largest_variances() -> None:
    generator = np.random.default_rng(0)
    vectors = (generator.standard_normal((200, 5)) * (1, 9, 2, 4, 0.1)).astype(np.float32)
    plane = principal_plane(vectors)
    centred = vectors - vectors.mean(axis=0)
    for axis, column in enumerate((1, 3)):
        assert abs(np.corrcoef(plane[:, axis], centred[:, column])[0, 1]) > 0.99
    assert float(np.abs(plane).max()) == pytest.approx(1)
    assert principal_plane(vectors[:2]).tolist() == [[0, 0], [0, 0]]


def test_wrong_labels_are_doubted_first(client: TestClient, make_photo: object) -> None:
    assert callable(make_photo)
    photo = make_photo(77)
    turned = client.post(
        "/v1/images", files={"image": photo, "mask": encoded(1 - half_mask())}, data={"name": "turned"}
    ).json()["number"]
    answer = client.get("/v1/suspicious?limit=8").json()
    assert len(answer["patches"]) == 8 <= answer["total"]
    assert [patch["number"] for patch in answer["patches"]].count(turned) >= 6
    for patch in answer["patches"]:
        assert patch["labelled"]["name"] != patch["neighbors_say"]["name"]
        assert 0 <= patch["box"]["left"] < patch["box"]["right"] <= 1
        assert client.get(patch["thumbnail"]).status_code == 200
    client.delete(f"/v1/images/{turned}")
    assert client.get("/v1/suspicious").json()["total"] < answer["total"]


def test_one_image_alone_is_not_doubted(client: TestClient) -> None:
    for number in (0, 1):
        client.delete(f"/v1/images/{number}")
    assert client.get("/v1/suspicious").json()["patches"] == []
