"""The exact engine: brute force in torch, the oracle, and the engine of small banks and of GPUs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field

from retrieval.engines.spec import Creation, EngineSpec, Opening

if TYPE_CHECKING:
    from retrieval.index import PatchIndex


#: Rows up to which a scan is as fast as FAISS's lists on two cores, with bfloat16 and without it: the table
#: ``benchmarks/results/crossover``. What lists need besides, training and a loss of recall, is not counted.
MOST_SCANNED, MOST_SCANNED_FLOAT32 = 200_000, 100_000


def most_scanned_rows() -> int:
    """Rows from which FAISS's lists are faster than the exact engine on this machine."""
    from retrieval.processor import bfloat16_product_pays

    return MOST_SCANNED if bfloat16_product_pays() else MOST_SCANNED_FLOAT32


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
