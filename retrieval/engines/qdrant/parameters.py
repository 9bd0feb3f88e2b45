"""A server's settings as a manifest keeps them."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from retrieval.engines.qdrant.settings import KIND_SERVER, QdrantSettings
from retrieval.errors import IndexDamagedError
from retrieval.store.manifest import Manifest


def engine_parameters(settings: QdrantSettings) -> dict[str, Any]:
    """What a manifest says of a server: address and settings, never a key."""
    return {"kind": KIND_SERVER, **settings.model_dump(mode="json")}


def settings_of(manifest: Manifest) -> QdrantSettings:
    """The settings in a manifest; raises IndexDamagedError where they do not fit."""
    try:
        return QdrantSettings.model_validate({k: v for k, v in manifest.engine.items() if k != "kind"})
    except ValidationError as error:
        first = error.errors()[0]
        raise IndexDamagedError(
            f"the manifest describes its Qdrant server incompletely ({first['loc']}: {first['msg']}); "
            "build the index again"
        ) from error
