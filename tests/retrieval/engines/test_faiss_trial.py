from __future__ import annotations

from pathlib import Path

import pytest

from retrieval import ClassInfo, ClassMap, Cosine, IndexSettings, Manifest, create_index
from retrieval.engines.faiss import FAISS
from retrieval.engines.faiss_trial import try_factory
from retrieval.errors import ConfigError

REFUSED = {
    "HNSW0": "0 links",
    "HNSW1,Flat": "1 links",
    "HNSW" + "9" * 5000: "characters",
    "IDMap,Flat": "cannot be filled",
    "NSG32": "cannot be filled",
    "IVF0,Flat": "0 lists",
    "IVF99999999999,Flat": "lists",
    "PQ0": "knows no index type|cannot be",
    "Abacus": "knows no index type",
}


@pytest.mark.parametrize("factory", REFUSED)
def test_a_type_that_would_fail_later_is_refused(factory: str) -> None:
    with pytest.raises(ConfigError, match=REFUSED[factory]):
        try_factory(factory, 32)


@pytest.mark.parametrize(
    "factory",
    ["Flat", "SQ8", "HNSW16", "IVF5000,Flat", "IVF64,PQ8x4fs,RFlat", "SVD16,IVF4,SQ8,Refine(SQfp16)"],
)
def test_a_type_that_works_is_taken(factory: str) -> None:
    try_factory(factory, 32)


def test_codes_that_a_few_rows_cannot_train_are_left_to_the_bank() -> None:
    try_factory("PQ8x12", 32)


def test_a_build_and_a_new_index_ask_before_any_row(tmp_path: Path) -> None:
    manifest = Manifest(ClassMap((ClassInfo(0, "sky", (1, 2, 3)),)), Cosine(8))
    settings = IndexSettings.model_validate({"engine": "faiss", "faiss": {"factory": "IDMap,Flat"}})
    with pytest.raises(ConfigError, match="cannot be filled"):
        FAISS.reach(settings.section, manifest)
    with pytest.raises(ConfigError, match="cannot be filled"):
        create_index(tmp_path / "bank.index", manifest, settings=settings, rows=10)
