"""What one image costs, end to end and by stage, beside the bare forward pass of the same ViT.

    mycelia index build DATA --split train --out cam.index --config camvid.yaml
    python -m benchmarks.latency cam.index DATA --split val [--images 16] [--json FILE] [--out FOLDER]

Images go one at a time through ``Segmenter.segment`` and ``masks.write_mask`` and, in turn, through the
plain timm model (all blocks, ``forward_features`` under inference mode), so that a machine whose speed
drifts is fair to both. The medians over images count, each stage without the stages within it; "the rest"
is what no stage has. Milliseconds are those of the clock, and those of the processor in all threads: on a
machine that others use too, the second with ``--threads 1`` are the ones to compare.
"""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import torch

from benchmarks.bank import spaced, use_threads
from benchmarks.command import index_parser, track
from benchmarks.plots import bars
from benchmarks.report import Row, write_table
from indexer.datasets import Sample, load_dataset
from indexer.features.fungi import FungiExtractor
from indexer.images import read_image
from retrieval import IndexSettings, read_manifest
from retrieval.edit.convert import convert_index
from retrieval.engines.embedded import EmbeddedIndex
from retrieval.errors import ConfigError
from retrieval.store.manifest import has_manifest
from segmentation import Segmenter, description, labelling, pixels
from segmentation.cli.progress import ProgressDisplay
from segmentation.drawing import masks
from segmentation.segmenter import Segmentation

#: Clock and processor, seconds.
Spent = tuple[float, float]

BARE, TOTAL, REST = "bare forward pass", "end to end", "the rest"


class Stopwatch:
    """Adds up what named functions take, each without the named functions that it calls."""

    def __init__(self) -> None:
        self.spent: dict[str, list[Spent]] = defaultdict(list)
        self._turn: dict[str, Spent] = {}
        self._inner: list[Spent] = []

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time the block."""
        self._inner.append((0.0, 0.0))
        start = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            whole = time.perf_counter() - start[0], time.process_time() - start[1]
            inner = self._inner.pop()
            so_far = self._turn.get(name, (0.0, 0.0))
            self._turn[name] = _plus(so_far, (whole[0] - inner[0], whole[1] - inner[1]))
            if self._inner:
                self._inner[-1] = _plus(self._inner[-1], whole)

    def watch(self, owner: Any, attribute: str, name: str) -> Any:
        """A patch under which ``owner.attribute`` is timed."""
        function: Callable[..., Any] = getattr(owner, attribute)

        @wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.stage(name):
                return function(*args, **kwargs)

        return patch.object(owner, attribute, timed)

    def end_turn(self, *, keep: bool) -> None:
        """One image is done; the first ones, which warm up, are not kept."""
        if keep:
            for name, spent in self._turn.items():
                self.spent[name].append(spent)
        self._turn = {}


def stages(subject: Segmenter) -> list[tuple[Any, str, str]]:
    """What a segmenter is made of: owner, attribute, name of the stage."""
    extractor, index = subject.extractor, subject.index
    if not isinstance(extractor, FungiExtractor) or not isinstance(index, EmbeddedIndex):
        raise ConfigError("the latency benchmark looks into indexes of this process; give no server's")
    return [
        (description, "read_image", "decode"),
        (extractor, "prepare", "resize, normalise"),
        (extractor.backbone, "cut", "forward to the cut"),
        (extractor, "patch_gradients", "tail, loss and gradient"),
        (extractor, "_negatives", "negatives from the support bank"),
        (extractor, "extract", "projection, PCA"),
        (index, "_find", "index search"),
        (index, "search", "labels of the neighbours"),
        (labelling, "vote_shares", "label transfer"),
        (labelling, "blend_labels", "label transfer"),
        (pixels, "classes_at", "upsampling"),
        (pixels, "refined_classes", "upsampling, refined"),
        (masks, "write_mask", "mask encoding and writing"),
    ]


def measure(subject: Segmenter, samples: tuple[Sample, ...], *, warm: int = 2) -> Stopwatch:
    """Segment each image and run the bare model on it, in turns."""
    watch, parts = Stopwatch(), stages(subject)
    model = subject.extractor.backbone._model  # type: ignore[attr-defined]
    with TemporaryDirectory() as folder, ExitStack() as patches, track("latency", len(samples)) as task:
        for part in parts:
            patches.enter_context(watch.watch(*part))
        for number, sample in enumerate(samples):
            with watch.stage(TOTAL):
                result: Segmentation = subject.segment(sample.image)
                masks.write_mask(Path(folder) / "mask.png", result.mask, subject.classes)
            pixels = FungiExtractor.prepare(subject.extractor, read_image(sample.image))[0][None]  # type: ignore[arg-type]
            with torch.inference_mode(), watch.stage(BARE):
                model.forward_features(pixels)
            watch.end_turn(keep=number >= min(warm, len(samples) - 1))
            task.advance()
    return watch


def table(watch: Stopwatch, names: list[str]) -> list[Row]:
    """One row a stage, then the whole, then the bare model; shares of the bare model's processor time."""
    whole = [
        (sum(turn[0] for turn in turns), sum(turn[1] for turn in turns))
        for turns in zip(*(watch.spent[name] for name in [*names, TOTAL]), strict=True)
    ]
    spent = {name: _medians(watch.spent[name]) for name in names}
    spent |= {REST: _medians(watch.spent[TOTAL]), TOTAL: _medians(whole), BARE: _medians(watch.spent[BARE])}
    return [
        {
            "stage": name,
            "ms": round(1000 * clock, 1),
            "processor ms": round(1000 * processor, 1),
            "of bare": round(clock / spent[BARE][0], 3),
            "of bare, processor": round(processor / spent[BARE][1], 3),
        }
        for name, (clock, processor) in spent.items()
    ]


def searched(index: Path, cache: Path) -> Path:
    """The index, or for an exact one the same rows with FAISS in ``cache``, converted at the first time."""
    manifest = read_manifest(index)
    if manifest.engine["kind"] != "exact":
        return index
    folder = cache / f"{index.stem}-latency.index"
    if not has_manifest(folder):
        cache.mkdir(parents=True, exist_ok=True)
        convert_index(index, folder, settings=IndexSettings(), progress=ProgressDisplay())
    return folder


def _plus(one: Spent, other: Spent) -> Spent:
    return one[0] + other[0], one[1] + other[1]


def _medians(spent: list[Spent]) -> Spent:
    return statistics.median(each[0] for each in spent), statistics.median(each[1] for each in spent)


def main() -> None:
    """Measure, print, and write the table and the picture."""
    parser = index_parser(__doc__, images=16)
    parser.set_defaults(cache=Path("out/latency"))  # two images more than --images warm up
    arguments = parser.parse_args()
    use_threads(arguments.threads)
    samples = spaced(load_dataset(arguments.data, split=arguments.split), arguments.images + 2).samples
    with Segmenter.open(searched(arguments.index, arguments.cache)) as subject:
        size, engine = subject.recipe.image.fixed_size, subject.index.manifest.engine
        note = f"{len(subject.index)} rows of {subject.index.similarity.width} numbers"
        names = list(dict.fromkeys(name for _, _, name in stages(subject)))
        watch = measure(subject, samples)
    result = table(watch, [name for name in names if watch.spent[name]])
    details = ", ".join(f"{key} {value}" for key, value in engine.items() if value is not None)
    notes = [
        f"{note} ({details}); {len(watch.spent[BARE])} images at {size[0]}x{size[1]}; "
        f"{arguments.threads} thread(s). Medians; a stage does not contain the stages that it calls."
    ]
    write_table("latency", result, folder=arguments.out, json_file=arguments.json, notes=notes)
    if arguments.out:
        milliseconds = [float(str(row["processor ms"])) for row in result]
        label = "milliseconds of processor time, one image"
        bars([str(row["stage"]) for row in result], milliseconds, label, arguments.out / "latency.svg")


if __name__ == "__main__":
    main()
