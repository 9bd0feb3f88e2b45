"""The exact engine: brute force in torch, the oracle, and the engine of small banks and of GPUs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field

from retrieval.engines.spec import Creation, EngineSpec, Opening

if TYPE_CHECKING:
    from retrieval.index import PatchIndex


#: Rows that are scanned rather than put into FAISS's lists. A search of lists is faster from far fewer rows
#: on already, but it takes training and finds less (recall .98 of 88,064 DINOv2 patches); up to here
#: comparing all rows in bfloat16 costs about what the model does (``benchmarks/results/crossover.md``).
MOST_SCANNED = 100_000


def most_scanned_rows() -> int:
    """Rows up to which the exact engine is the one to choose on this machine.

    0 where bfloat16 does not pay: there FAISS's scan in float32 is the faster one.
    """
    from retrieval.processor import bfloat16_product_pays

    return MOST_SCANNED if bfloat16_product_pays() else 0


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
