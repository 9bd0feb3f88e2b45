"""Which recipe is the default: with the hub's weights, or without the hub. No request leaves the test."""

from __future__ import annotations

import urllib.request
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from indexer import defaults
from indexer.defaults import default_recipe_path


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[urllib.request.Request]]:
    """``hub(cached=..., answers=...)`` fakes a hub; the list of the requests that reach it."""
    (tmp_path / "default.yaml").write_text("backbone: {model: vit_small_patch14_dinov2}\n")
    (tmp_path / "offline.yaml").write_text("")
    monkeypatch.setattr(defaults, "config_folder", lambda: tmp_path)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.delenv("HF_ENDPOINT", raising=False)

    def make(*, cached: bool, answers: bool) -> list[urllib.request.Request]:
        requests: list[urllib.request.Request] = []

        def urlopen(request: urllib.request.Request, **options: Any) -> Any:
            requests.append(request)
            if not answers:
                raise TimeoutError("no answer")
            return nullcontext()

        def look(repository: str, name: str) -> str | None:
            assert repository == "timm/vit_small_patch14_dinov2.lvd142m"
            return f"/cache/{name}" if cached else None

        monkeypatch.setattr(urllib.request, "urlopen", urlopen)
        monkeypatch.setattr(defaults, "try_to_load_from_cache", look)
        return requests

    return make


def test_cached_weights_need_no_request(hub: Callable[..., list[urllib.request.Request]]) -> None:
    requests = hub(cached=True, answers=False)
    assert default_recipe_path().name == "default.yaml"
    assert requests == []


def test_the_hub_is_asked(
    hub: Callable[..., list[urllib.request.Request]], monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = hub(cached=False, answers=True)
    monkeypatch.setenv("HF_ENDPOINT", "https://mirror.example/")
    assert default_recipe_path().name == "default.yaml"
    assert [request.get_method() for request in requests] == ["HEAD"]
    assert requests[0].full_url == "https://mirror.example/api/models/timm/vit_small_patch14_dinov2.lvd142m"


def test_a_silent_hub_means_offline(hub: Callable[..., list[urllib.request.Request]]) -> None:
    hub(cached=False, answers=False)
    assert default_recipe_path().name == "offline.yaml"


def test_offline_mode_forbids_asking(
    hub: Callable[..., list[urllib.request.Request]], monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = hub(cached=False, answers=True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert default_recipe_path().name == "offline.yaml"
    assert requests == []
