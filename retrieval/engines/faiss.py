"""FAISS in this process: the default engine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from retrieval.engines.faiss_types import load_faiss, training_rows
from retrieval.engines.spec import Creation, EngineSpec, Opening, TrialEngine
from retrieval.similarity import Cosine
from retrieval.store.commit import IndexFiles
from retrieval.store.manifest import Manifest

if TYPE_CHECKING:
    from retrieval.index import PatchIndex


class FaissSettings(BaseModel):
    """Which index type FAISS uses, and how it searches."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    factory: str | None = Field(
        default=None, description="FAISS factory string; chosen by the bank's size when empty"
    )
    refine: Literal["float16", "int8", "none"] = Field(
        default="float16",
        description="how FAISS's default type stores the vectors that rank the candidates; int8 goes well "
        "with features.pca; none, and always so with rerank.candidates: others rank them",
    )
    codes: Literal["pq", "int8"] = Field(
        default="pq",
        description="what FAISS's default type scans: 4-bit product codes, whose candidates refine ranks; or "
        "int8, the vectors themselves in 8 bits and nothing beside them: fewer bytes, a slower search",
    )
    nprobe: int | None = Field(
        default=None,
        ge=1,
        le=2**24,
        description="inverted lists searched per query; chosen by size when empty",
    )
    k_factor: int | None = Field(
        default=None,
        ge=1,
        le=10_000,
        description="candidates kept for refinement, times k; grows with k when empty",
    )


def _create(asked: Creation) -> PatchIndex:
    from retrieval.engines.embedded import create_embedded
    from retrieval.engines.faiss_search import FaissEngine
    from retrieval.engines.tail import TailEngine

    settings = asked.settings
    _reach(settings, asked.manifest)
    if asked.manifest.similarity.reranked is not None:
        settings = settings.model_copy(update={"refine": "none"})  # others order what is found
    return create_embedded(
        asked,
        lambda similarity, rows: TailEngine.create(
            asked.files,
            FaissEngine.create(
                asked.files,
                similarity,
                settings=settings,
                rows=asked.rows,
                sample=asked.sample,
                device=asked.device,
            ),
            similarity.width,
            device=asked.device,
        ),
    )


def _reach(settings: FaissSettings, manifest: Manifest) -> None:
    if settings.factory is not None:
        from retrieval.engines.faiss_trial import try_factory

        try_factory(settings.factory, manifest.similarity.searched.width)


def _open(asked: Opening) -> PatchIndex:
    from retrieval.engines.embedded import open_embedded
    from retrieval.engines.faiss_search import FaissEngine
    from retrieval.engines.tail import TailEngine

    return open_embedded(
        asked,
        lambda similarity, rows: TailEngine.open(
            asked.files,
            FaissEngine.open(asked.files, similarity, asked.manifest.engine, device=asked.device),
            similarity.width,
            device=asked.device,
        ),
    )


def _make_trial(settings: FaissSettings, rows: int, sample: npt.NDArray[np.float32]) -> TrialEngine:
    from retrieval.engines.faiss_search import FaissEngine

    nowhere = IndexFiles(Path())  # nothing is staged, so nothing is written
    similarity = Cosine(sample.shape[1])
    return FaissEngine.create(nowhere, similarity, settings=settings, rows=rows, sample=sample)


def _require() -> None:
    load_faiss()


FAISS = EngineSpec(
    name="faiss",
    kind="faiss",
    title="FAISS",
    settings=FaissSettings,
    create=_create,
    open=_open,
    require=_require,
    reach=_reach,
    packages=("faiss-cpu", "faiss-gpu", "faiss-gpu-cu12"),
    training_rows=training_rows,
    make_trial=_make_trial,
)
