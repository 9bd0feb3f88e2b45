"""Images and masks in, an index of labelled patches out: features, memory bank, build."""

from typing import TYPE_CHECKING

from retrieval.lazy import lazy_exports

if TYPE_CHECKING:
    from indexer.bank.build import BuildReport, build_index
    from indexer.datasets import Dataset, LabelSource, Sample, load_dataset
    from indexer.defaults import default_recipe_path
    from indexer.features.fungi import FungiExtractor, open_extractor
    from indexer.images import read_image
    from indexer.recipe import Recipe, load_recipe

__all__ = [
    "BuildReport",
    "Dataset",
    "FungiExtractor",
    "LabelSource",
    "Recipe",
    "Sample",
    "build_index",
    "default_recipe_path",
    "load_dataset",
    "load_recipe",
    "open_extractor",
    "read_image",
]

__getattr__ = lazy_exports(
    __name__,
    {
        "BuildReport": "indexer.bank.build",
        "Dataset": "indexer.datasets",
        "FungiExtractor": "indexer.features.fungi",
        "LabelSource": "indexer.datasets",
        "Recipe": "indexer.recipe",
        "Sample": "indexer.datasets",
        "build_index": "indexer.bank.build",
        "default_recipe_path": "indexer.defaults",
        "load_dataset": "indexer.datasets",
        "load_recipe": "indexer.recipe",
        "open_extractor": "indexer.features.fungi",
        "read_image": "indexer.images",
    },
)
