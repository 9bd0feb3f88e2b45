"""Which recipe is the default here: the one with the hub's weights, or the one that needs no hub."""

from __future__ import annotations

import os
import threading
import urllib.request
from http.client import HTTPException
from pathlib import Path

from huggingface_hub import try_to_load_from_cache

from indexer.features.weights.library import load_timm
from indexer.kinds import Kind
from indexer.recipe import config_folder, load_recipe

#: Seconds within which the hub has to answer.
HUB_TIMEOUT = 3.0
#: The recipe with the hub's weights, and the one without them where there is one.
RECIPES: dict[Kind, tuple[str, str]] = {
    "image": ("default.yaml", "offline.yaml"),
    "text": ("text.yaml", "text-offline.yaml"),
    "audio": ("audio.yaml", "audio.yaml"),
}
#: Names under which the hub keeps weights that timm can load.
_WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")


def default_recipe_path(kind: Kind = "image") -> Path:
    """``default.yaml`` where the hub's weights for it can be had, else ``offline.yaml``.

    Of texts ``text.yaml`` or ``text-offline.yaml``, of recordings ``audio.yaml``.

    They can be had where the hub's cache on this machine holds them, or where the hub answers
    within :data:`HUB_TIMEOUT` seconds. ``HF_HUB_OFFLINE`` forbids asking, ``HF_ENDPOINT`` names
    another hub.
    """
    online, offline = RECIPES[kind]
    default = config_folder() / online
    model = load_recipe(default).backbone.model
    repository = _repository(model) if kind == "image" else model
    if _is_cached(repository) or (not _is_offline() and _hub_answers(repository)):
        return default
    return config_folder() / offline


def _repository(model: str) -> str:
    card = load_timm().get_pretrained_cfg(model)
    return str(card.hf_hub_id) if card is not None and card.hf_hub_id else f"timm/{model}"


def _is_cached(repository: str) -> bool:
    return any(isinstance(try_to_load_from_cache(repository, name), str) for name in _WEIGHT_FILES)


def _is_offline() -> bool:
    # as huggingface_hub reads it, but at the time of the call
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}


def _hub_answers(repository: str) -> bool:
    """Whether the hub has the repository and says so in time."""
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    request = urllib.request.Request(f"{endpoint}/api/models/{repository}", method="HEAD")
    answers = threading.Event()

    def ask() -> None:
        try:
            with urllib.request.urlopen(request, timeout=HUB_TIMEOUT):
                answers.set()
        except (OSError, ValueError, HTTPException):
            pass

    # a name server that keeps silent is not covered by the timeout of the connection
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(HUB_TIMEOUT)
    return answers.is_set()
