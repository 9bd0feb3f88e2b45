"""The ``index`` section of a recipe: which engine holds the vectors, and each engine's own settings."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from retrieval.engines.exact import ExactSettings, most_scanned_rows
from retrieval.engines.faiss import FaissSettings
from retrieval.engines.qdrant.settings import QdrantSettings
from retrieval.engines.registry import engines, engines_named
from retrieval.engines.spec import EngineSpec
from retrieval.errors import ConfigError

#: The engine that is chosen when the number of rows is known.
AUTO = "auto"

#: Keys that older recipes and manifests have directly below ``index``, and the sections they are in now.
FLAT_KEYS = {"factory": "faiss", "refine": "faiss", "nprobe": "faiss", "k_factor": "faiss", "dtype": "exact"}


class IndexSettings(BaseModel):
    """Where the vectors live and how they are searched; each engine has a section of its own."""

    model_config = ConfigDict(extra="allow", frozen=True)

    engine: str = Field(
        default="auto",
        description="auto: exact up to 100,000 rows where the processor gains by bfloat16, else faiss if "
        "it is installed; exact: all rows are compared; faiss: embedded; qdrant: a vector database; or the "
        "name of an installed engine",
    )
    exact: ExactSettings = ExactSettings()
    faiss: FaissSettings = FaissSettings()
    qdrant: QdrantSettings = QdrantSettings()

    @model_validator(mode="before")
    @classmethod
    def _place_sections(cls, data: Any) -> Any:
        """Flat keys of older recipes go into their sections; sections of installed engines are read."""
        if not isinstance(data, dict):
            return data
        placed = dict(data)
        for key in [key for key in placed if key in FLAT_KEYS]:
            section = placed.get(FLAT_KEYS[key]) or {}
            section = section.model_dump() if isinstance(section, BaseModel) else section
            if isinstance(section, dict):
                placed[FLAT_KEYS[key]] = {**section, key: placed.pop(key)}
        for key in placed.keys() - cls.model_fields.keys():
            found = engines_named(key)
            if not found:
                raise ValueError(f"unknown key index.{key}")
            placed[key] = _section_of(found[0], placed[key] or {})
        return placed

    @field_validator("engine")
    @classmethod
    def _is_known(cls, engine: str) -> str:
        if engine != AUTO and not engines_named(engine):
            names = dict.fromkeys([AUTO, *(spec.name for spec in engines())])
            raise ValueError(f"there is no such engine; choose one of {', '.join(names)}")
        return engine

    def for_rows(self, rows: int, *, inner_product: bool = True) -> IndexSettings:
        """The same with ``auto`` replaced by the engine of a bank of so many rows.

        That is FAISS where somebody set how FAISS searches, and, if it is installed and the similarity is an
        inner product, for more rows than the exact engine is good for here; else the exact engine.
        """
        if self.engine != AUTO:
            return self
        fits = inner_product and find_spec("faiss") is not None
        listed = fits and rows > most_scanned_rows()
        return self.model_copy(update={"engine": "faiss" if listed or self._sets_faiss else "exact"})

    @property
    def _sets_faiss(self) -> bool:
        return self.faiss != FaissSettings()

    @property
    def section(self) -> Any:
        """The chosen engine's own settings; of ``auto`` those of what a small bank gets."""
        named = self.for_rows(0).engine
        if named in type(self).model_fields:
            return getattr(self, named)
        return (self.model_extra or {}).get(named) or engines_named(named)[0].settings()

    @property
    def spec(self) -> EngineSpec:
        """The chosen engine; of ``auto`` what a small bank gets."""
        named = self.for_rows(0).engine
        return next(spec for spec in engines_named(named) if spec.chosen(self.section))


def _section_of(spec: EngineSpec, data: Any) -> BaseModel:
    """The section of an installed engine; raises ConfigError, naming the key, for one that does not fit."""
    try:
        return spec.settings.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, ("index", spec.name, *first["loc"])))
        raise ConfigError(f"{key} = {first['input']!r} does not fit: {first['msg']}") from error
