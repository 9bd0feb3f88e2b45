"""``mycelia demo``: plain embeddings beside FUNGI on real photographs, in a few minutes on two cores."""

from __future__ import annotations

import logging
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from indexer.bank.build import build_index
from indexer.datasets import Dataset, load_dataset
from indexer.recipe import Recipe, load_recipe
from retrieval.progress import Progress
from retrieval.store.manifest import has_manifest
from segmentation.demo.comparison import Comparison, write_comparison
from segmentation.demo.data import write_demo_dataset
from segmentation.scoring.evaluator import EvaluationReport, evaluate
from segmentation.segmenter import Segmenter

_LOGGER = logging.getLogger("mycelia")

#: The recipe whose weights come from a package registry.
RECIPE = "offline.yaml"
#: Small enough for two cores, large enough for the coins.
IMAGE_SIZE = "[448, 448]"
#: Feature kinds that are compared, and what they are called in tables and pictures.
METHODS = {"embeddings": "embeddings", "fungi": "FUNGI"}
#: Query images shown in the picture, one of each scene.
SHOWN = ("garage-right", "coins-lower-2", "mosaic-right-1", "cameraman")


@dataclass(frozen=True)
class MethodResult:
    """What one kind of features gave on the query images."""

    kind: str
    report: EvaluationReport
    columns: dict[str, npt.NDArray[np.int32]]
    confidence: dict[str, npt.NDArray[np.float32]]


@dataclass(frozen=True)
class DemoResult:
    """The scores of every method, and where the picture lies."""

    methods: tuple[MethodResult, ...]
    picture: Path
    seconds: float


def run_demo(out: Path, *, progress: Progress | None = None) -> DemoResult:
    """Make the data, build and score an index for each kind of features, write ``out/demo.png``.

    An index that an earlier run of the demo left in ``out`` is built anew. What happens is told to the
    logger ``mycelia``, how far it is to ``progress``. Raises MissingExtraError without scikit-image,
    WeightsError where the weights cannot be fetched.
    """
    start = time.monotonic()
    data = out / "data"
    _LOGGER.info("demo data: photographs of scikit-image, masks by construction -> %s", data)
    write_demo_dataset(data)
    memory = load_dataset(data, split="train", format="folder")
    queries = load_dataset(data, split="val", format="folder")
    methods = tuple(_run_method(kind, memory, queries, out=out, progress=progress) for kind in METHODS)
    picture = write_comparison(
        out / "demo.png",
        [_comparison(queries, id, methods) for id in SHOWN],
        classes=queries.classes,
        methods=[f"{METHODS[m.kind]}, mIoU {100 * m.report.miou:.1f}" for m in methods],
    )
    return DemoResult(methods, picture, time.monotonic() - start)


def demo_recipe(kind: str) -> Recipe:
    """The demo's recipe for one kind of features."""
    # So small a bank is searched exactly, and FUNGI can use the gradients' true similarity.
    exact = ["index.engine=exact", "features.projection=none"]
    return load_recipe(RECIPE, [f"image.size={IMAGE_SIZE}", f"features.kind={kind}", *exact])


def _run_method(
    kind: str, memory: Dataset, queries: Dataset, *, out: Path, progress: Progress | None
) -> MethodResult:
    recipe = demo_recipe(kind)
    folder = out / f"{kind}.index"
    if folder.is_dir() and has_manifest(folder):
        shutil.rmtree(folder)
    _LOGGER.info("%s: building %s from %d images", METHODS[kind], folder, len(memory))
    build_index(memory, folder, recipe=recipe, progress=progress)
    with Segmenter.open(folder) as segmenter:
        report = evaluate(segmenter, queries, progress=progress)
        shown = [sample for sample in queries.samples if sample.id in SHOWN]
        results = {sample.id: segmenter.segment(sample.image) for sample in shown}
    return MethodResult(
        kind,
        report,
        {id: result.columns for id, result in results.items()},
        {id: result.confidence for id, result in results.items()},
    )


def _comparison(queries: Dataset, id: str, methods: tuple[MethodResult, ...]) -> Comparison:
    sample = next(sample for sample in queries.samples if sample.id == id)
    image, truth = queries.read(sample)
    return Comparison(
        image, truth, tuple(method.columns[id] for method in methods), methods[-1].confidence[id]
    )
