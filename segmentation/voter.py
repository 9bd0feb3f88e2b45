"""What a segmenter and a classifier share: an open index, an extractor, and the settings of the vote."""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import Any, ClassVar, Protocol, TypeVar

import numpy as np

from indexer.recipe import Recipe
from retrieval.classes import ClassMap
from retrieval.errors import ConfigError
from retrieval.folder import IndexFolder
from retrieval.index import PatchIndex
from retrieval.store.records import ImageRecord

V = TypeVar("V", bound="Voter")


class HasRecipe(Protocol):
    """Anything made by a recipe."""

    @property
    def recipe(self) -> Recipe:
        """The recipe in force."""


class Voter:
    """Labels by the neighbours that an index finds. Use it as a context manager, or :meth:`close` it."""

    #: What messages call it.
    noun: ClassVar[str]
    #: What the rows of its index are.
    row: ClassVar[str]

    def __init__(
        self, index: PatchIndex, made_by: HasRecipe, *, k: int | None, temperature: float | None
    ) -> None:
        """``k`` and ``temperature`` default to those of the recipe of ``made_by``.

        Raises ConfigError for a ``k`` below 1, a temperature that is not positive, or an empty index.
        """
        self.index = index
        self._made_by = made_by
        transfer = made_by.recipe.transfer
        self.k = transfer.k if k is None else k
        self.temperature = transfer.temperature if temperature is None else temperature
        check_transfer(self.k, self.temperature)
        if len(index) == 0:
            raise ConfigError(f"the index holds no {self.row} to compare with; add labelled images to it")
        self._closed = self._stale = False
        self._folder: IndexFolder | None = None  # of an index that was opened by its path

    @property
    def classes(self) -> ClassMap:
        """The classes of the index."""
        return self.index.classes

    @property
    def recipe(self) -> Recipe:
        """The recipe in force, with this one's k and temperature."""
        recipe = self._made_by.recipe
        transfer = recipe.transfer.model_copy(update={"k": self.k, "temperature": self.temperature})
        return recipe.model_copy(update={"transfer": transfer})

    def refresh(self) -> bool:
        """See images that others have added to the index, or taken out, since it was opened; whether any.

        Costs next to nothing where there were none, so that a service may call it before each question; not
        while another thread asks. Raises what opening the index does, and ConfigError where this is closed.
        """
        self._check_open()
        changed = self.index.refresh() or self._stale
        if changed and self._folder is not None:
            self._stale = True  # until all is taken: after an error the next call tries again
            self._folder.refresh()
            self._take_images(self._folder.records)
            self._stale = False
        return changed

    def _take_images(self, images: Iterable[ImageRecord]) -> None:
        """Take the records of the images that the index has now."""

    def close(self) -> None:
        """Close the index; nothing can be labelled any more."""
        self._closed = True
        self.index.close()

    def __enter__(self: V) -> V:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check_open(self) -> None:
        if self._closed:
            raise ConfigError(f"this {self.noun} is closed; open it again")


def check_transfer(k: Any, temperature: Any) -> None:
    """Raise ConfigError for a ``k`` below 1 or a temperature that is not positive."""
    real = int | float | np.integer | np.floating
    fits = isinstance(k, int | np.integer) and k >= 1 and isinstance(temperature, real) and temperature > 0
    if not fits:
        raise ConfigError(
            "label transfer needs a whole number k of at least 1 and a temperature above 0, not "
            f"k = {k!r:.40} and temperature = {temperature!r:.40}"
        )
