"""The exact engine: brute force in torch, the oracle, and the engine of small banks and of GPUs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field

from retrieval.engines.spec import Creation, EngineSpec, Opening

if TYPE_CHECKING:
    from retrieval.index import PatchIndex


class ExactSettings(BaseModel):
    """How the exact engine stores vectors."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dtype: Literal["float32", "float16"] = Field(
        default="float16", description="how the exact engine stores vectors"
    )


def _create(asked: Creation) -> PatchIndex:
    from retrieval.engines.embedded import create_embedded
    from retrieval.engines.exact_search import ExactEngine

    return create_embedded(
        asked,
        lambda similarity, rows: ExactEngine.create(
            asked.files, similarity, dtype=asked.settings.dtype, device=asked.device
        ),
    )


def _open(asked: Opening) -> PatchIndex:
    from retrieval.engines.embedded import open_embedded
    from retrieval.engines.exact_search import ExactEngine

    return open_embedded(
        asked,
        lambda similarity, rows: ExactEngine.open(
            asked.files, similarity, dtype=str(asked.manifest.engine["dtype"]), device=asked.device
        ),
    )


EXACT = EngineSpec(
    name="exact",
    kind="exact",
    title="the exact engine",
    settings=ExactSettings,
    create=_create,
    open=_open,
    inner_products_only=False,
    searches_exactly=True,
)
