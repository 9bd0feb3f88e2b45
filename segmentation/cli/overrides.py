"""``KEY=VALUE``: settings of an index's recipe that a command may change."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from retrieval.errors import ConfigError

if TYPE_CHECKING:
    from indexer.recipe import Recipe
    from retrieval.folder import IndexFolder
    from segmentation.segmenter import Segmenter

#: Sections of the recipe, and single keys, that may differ from what built the index.
FREE_SECTIONS = ("transfer", "rerank", "runtime", "image.shifts", "image.flip", "image.overlap")

#: Anything like ``key=``: a wrong key is told apart from a photo that is not there.
_SETTING = re.compile(r"[A-Za-z_.]+=")

_EXAMPLES = {
    "transfer": "transfer.k=50",
    "index": "index.faiss.nprobe=64",
    "runtime": "runtime.device=cpu",
}


def split_overrides(arguments: Sequence[str]) -> tuple[list[Path], list[str]]:
    """Paths, and what reads as ``key=value`` and is no file, of arguments that may be either."""
    from indexer.images.formats import IMAGE_SUFFIXES

    overrides = [
        text
        for text in arguments
        if _SETTING.match(text)
        and Path(text).suffix.lower() not in IMAGE_SUFFIXES
        and not Path(text).exists()
    ]
    return [Path(text) for text in arguments if text not in overrides], overrides


def check_overrides(overrides: Sequence[str], *, sections: Sequence[str]) -> None:
    """Allow ``key=value`` overrides of the given sections and keys alone; ConfigError for any other.

    The other settings are built into an index: changing them needs a new index.
    """
    for override in overrides:
        key, separator, _ = override.partition("=")
        if not separator:
            raise ConfigError(
                f"override {override!r} should be key=value, for example {_EXAMPLES[sections[0]]}"
            )
        if key not in sections and key.partition(".")[0] not in sections:
            allowed = ", ".join(name if "." in name else f"{name}.*" for name in sections)
            raise ConfigError(
                f"{key} cannot be changed here, only {allowed}: the rest is fixed when an index is built; "
                "build another index to change it"
            )


def built_recipe(folder: IndexFolder) -> Recipe:
    """The recipe that decided an index's vectors; where it was built is forgotten."""
    from indexer import recipe

    _ = folder.spec  # an engine that is missing here is named as such, and not as an unknown key
    return recipe.built_recipe(folder.manifest.recipe, folder.path, run=False)  # who opens it asks


def changed_recipe(folder: IndexFolder, overrides: Sequence[str] | None) -> Recipe:
    """An index's recipe with ``key=value`` changes of :data:`FREE_SECTIONS`; ConfigError for any other."""
    from indexer.recipe import override_recipe

    changes = list(overrides or ())
    check_overrides(changes, sections=FREE_SECTIONS)
    built = built_recipe(folder)
    recipe = override_recipe(built, changes)
    if built.reranks and not recipe.reranks:
        raise ConfigError(
            "rerank.candidates cannot be emptied for an index that was built with it; give a number"
        )
    return recipe


def open_segmenter(folder: IndexFolder, recipe: Recipe) -> Segmenter:
    """A segmenter on an index with the settings of :func:`changed_recipe`."""
    from segmentation.segmenter import Segmenter

    return Segmenter.open(
        folder,
        runtime=recipe.runtime,
        k=recipe.transfer.k,
        temperature=recipe.transfer.temperature,
        candidates=recipe.rerank.candidates,
        shifts=recipe.image.shifts,
        flip=recipe.image.flip,
        overlap=recipe.image.overlap,
        transfer=recipe.transfer,
    )
