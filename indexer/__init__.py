"""Images and masks in, an index of labelled patches out: features, memory bank, build."""

from indexer.build import BuildReport, build_index
from indexer.datasets import Dataset, Sample, load_dataset
from indexer.defaults import default_recipe_path
from indexer.fungi import FungiExtractor, open_extractor
from indexer.images import read_image
from indexer.recipe import Recipe, load_recipe

__all__ = [
    "BuildReport",
    "Dataset",
    "FungiExtractor",
    "Recipe",
    "Sample",
    "build_index",
    "default_recipe_path",
    "load_dataset",
    "load_recipe",
    "open_extractor",
    "read_image",
]
