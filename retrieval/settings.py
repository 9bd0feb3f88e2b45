"""The ``index`` section of a recipe: which engine holds the vectors, and how."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from retrieval.engines.qdrant.settings import QdrantSettings


class IndexSettings(BaseModel):
    """Where the vectors live and how they are searched."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    engine: Literal["exact", "faiss", "qdrant"] = Field(
        default="faiss",
        description="exact: brute force in torch; faiss: embedded, the default; qdrant: a vector database",
    )
    factory: str | None = Field(
        default=None, description="FAISS factory string; chosen by the bank's size when empty"
    )
    refine: Literal["float16", "int8", "none"] = Field(
        default="float16",
        description="how FAISS's default type stores the vectors that rank the candidates; int8 goes well "
        "with features.pca; none, and always so with rerank.candidates: others rank them",
    )
    nprobe: int | None = Field(
        default=None, ge=1, description="inverted lists searched per query; chosen by size when empty"
    )
    k_factor: int | None = Field(
        default=None, ge=1, description="candidates kept for refinement, times k; grows with k when empty"
    )
    dtype: Literal["float32", "float16"] = Field(
        default="float16", description="how the exact engine stores vectors"
    )
    qdrant: QdrantSettings = QdrantSettings()
