"""A block's patches, described once, and the tallies of settings on left-out images."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

from indexer.datasets import Dataset
from indexer.features.fungi import FungiExtractor
from indexer.features.passes import extract_passes
from indexer.images import PatchGrid
from indexer.recipe import Recipe, override_recipe
from retrieval.neighbors import Neighbors
from retrieval.progress import Progress, track
from segmentation.tuning.cuts import fit_keeping_cuts
from segmentation.tuning.leave_out import nearest_left_out, neighbors_left_out
from segmentation.tuning.reduced import FoldSums, Reducer
from segmentation.tuning.rows import Bank, Parts, Query, collect
from segmentation.tuning.scan import BankScan, can_scan, find_left_out
from segmentation.tuning.scoring import Scene, Tally, tally_of
from segmentation.tuning.settings import Setting, Vector


@dataclass(frozen=True)
class Memory:
    """Labelled images, some of which are left out and segmented."""

    recipe: Recipe
    dataset: Dataset
    rules: tuple[npt.NDArray[np.int64], ...]
    """The group (images,) of each image, left out together: of the choice first, then images alone."""
    queries: Sequence[int]
    total: int
    """Images of the whole bank, of which these may be a part."""
    progress: Progress | None = field(repr=False)


@dataclass(eq=False)
class Described:
    """One block's bank and queries, in memory."""

    memory: Memory
    extractor: FungiExtractor
    bank: Bank
    queries: dict[int, list[Query]]
    """The images to segment, by how many times finer than the model's grid their patches are."""
    reducer: Reducer

    @classmethod
    def of(cls, memory: Memory, block: int, *, gradients: bool, measured: bool) -> Described:
        """Describe a memory's images, for metrics too where ``measured``; raises as :func:`rows.collect`."""
        kind = "fungi" if gradients else "embeddings"
        overrides = [f"backbone.block={block}", f"features.kind={kind}", *NO_REDUCTION_KEYS]
        extractor = FungiExtractor.create(override_recipe(memory.recipe, overrides))
        dataset, progress = memory.dataset, memory.progress
        cuts = fit_keeping_cuts(extractor, dataset.samples, progress=progress)
        sums = FoldSums(memory.rules, len(dataset.classes))
        bank, queries = collect(
            extractor,
            dataset,
            memory.queries,
            total=memory.total,
            sums=sums if measured else None,
            progress=progress,
            cuts=cuts,
        )
        return cls(memory, extractor, bank, {1: queries}, Reducer(bank, sums))

    def problem(self, vector: Vector, rules: int) -> str | None:
        """Why a vector cannot be had under the first so many rules, in a sentence; None where it can."""
        if vector.reduction.kind == "none":
            return None
        if vector.weight and len(self.bank.parts) == 3:
            return "features.projection=none takes no metric, so gradients were scored without"
        found = self.reducer.check(rules, self.queries[1], vector.weight, vector.reduction)
        return f"{vector.reduction} was not scored: {found}" if found else None

    def score(
        self, settings: Sequence[Setting], places: Sequence[int], rule: int, *, pixels: int, label: str
    ) -> Tally:
        """The tally of every setting and image, (S, len(places), C, 2), under a rule of leaving out.

        ``places`` are positions among the memory's queries; of a mask about ``pixels`` pixels are scored.
        """
        classes = len(self.memory.dataset.classes)
        result = np.zeros((len(settings), len(places), classes, 2), dtype=np.int64)
        by_vector: dict[tuple[int, Vector], list[int]] = defaultdict(list)
        for number, setting in enumerate(settings):
            by_vector[setting.shifts, setting.vector].append(number)
        with track(self.memory.progress, label, len(by_vector) * len(places)) as task:
            for shifts in sorted({shifts for shifts, _ in by_vector}):
                vectors = [vector for other, vector in by_vector if other == shifts]
                seen = self.seen(shifts, gradients=any(vector.weight for vector in vectors))
                queries = [seen[place] for place in places]
                deepest = max(setting.k for setting in settings)
                for place, vector, near in self._neighbors(queries, vectors, rule, deepest):
                    numbers = by_vector[shifts, vector]
                    chosen = [settings[number] for number in numbers]
                    result[numbers, place] = self._tallies(near, queries[place], chosen, pixels)
                    task.advance()
        return result

    def scene(self, query: Query, *, photo: bool, pixels: int) -> Scene:
        """What an image is scored with."""
        dataset = self.memory.dataset
        image, truth = dataset.read(query.sample) if photo else (None, dataset.read_mask(query.sample))
        grid = PatchGrid(query.geometry, self.extractor.patch_size, query.shifts)
        return Scene(truth, grid, image, pixels)

    def seen(self, shifts: int, *, gradients: bool = False) -> list[Query]:
        """The queries with a grid so many times finer, described when first asked for.

        They have the embeddings alone unless ``gradients`` were asked for.
        """
        wanted = len(self.bank.parts) if gradients else 1
        if shifts not in self.queries or len(self.queries[shifts][0].parts) < wanted:
            extractor = _AllParts(self.extractor if wanted > 1 else embeddings_alone(self.extractor))
            label = f"block {self.extractor.backbone.block}: features, image.shifts={shifts}"
            with track(self.memory.progress, label, len(self.queries[1])) as task:
                found = []
                for query in self.queries[1]:
                    image, _ = self.memory.dataset.read(query.sample)
                    pixels, geometry = self.extractor.prepare(image)
                    grid = PatchGrid(geometry, self.extractor.patch_size, shifts)
                    rows = extract_passes(extractor, pixels[None], [grid], flip=False)[0, 0]
                    parts = tuple(part.half() for part in torch.split(rows, extractor.widths, dim=1))
                    found.append(Query(query.image, query.sample, parts, geometry, shifts))
                    task.advance()
            self.queries[shifts] = found
        return self.queries[shifts]

    def _tallies(self, near: Neighbors, query: Query, settings: Sequence[Setting], pixels: int) -> Tally:
        scene = self.scene(query, photo=any(s.refine != "none" for s in settings), pixels=pixels)
        shares: dict[tuple[int, float], npt.NDArray[np.float32]] = {}
        found = []
        for setting in settings:
            key = setting.k, setting.temperature
            if key not in shares:
                shares[key] = scene.shares(near.first(setting.k), temperature=setting.temperature)
            transfer = self.memory.recipe.transfer.model_copy(update={"refine": setting.refine})
            found.append(tally_of(scene.confusion(shares[key], transfer)))
        return np.stack(found)

    def _neighbors(
        self, queries: Sequence[Query], vectors: Sequence[Vector], rule: int, k: int
    ) -> Iterator[tuple[int, Vector, Neighbors]]:
        """(position of the query, vector, neighbours), of every pair."""
        codes, device = self.memory.rules[rule], self.extractor.backbone.device
        plain = [vector for vector in vectors if vector.reduction.kind == "none"]
        scanned = [vector for vector in plain if can_scan(self.bank, vector.weight, device)]
        for vector in scanned:
            find = find_left_out(self.bank, vector.weight, codes, k)
            yield from ((place, vector, find(query)) for place, query in enumerate(queries))
        plain = [vector for vector in plain if vector not in scanned]
        for place, query in enumerate(queries if plain else ()):
            weights = [vector.weight for vector in plain]
            (found,) = neighbors_left_out(query, self.bank, [codes], weights, k, device=device)
            for vector, near in zip(plain, found, strict=True):
                yield place, vector, near
        for vector in vectors:
            if vector.reduction.kind == "none":
                continue
            for rows, inside in self.reducer.banks(rule, queries, vector.weight, vector.reduction):
                scan = BankScan((rows,), 0) if device.type == "cpu" else None
                for place, ours in inside:
                    hidden = codes[self.bank.images] == codes[queries[place].image]
                    if scan is not None:
                        near = scan.nearest((ours,), hidden, k).neighbors(self.bank.labels)
                    else:
                        near = nearest_left_out(ours, rows, self.bank.labels, hidden, k, device=device)
                    yield place, vector, near


#: What leaves a recipe's vectors as they are described.
NO_REDUCTION_KEYS = (
    "features.pca=null", "features.whiten=none", "features.metric=none", "features.width=null"
)  # fmt: skip


def embeddings_alone(extractor: FungiExtractor) -> FungiExtractor:
    """The same model without gradients."""
    if extractor.recipe.features.kind == "embeddings":
        return extractor
    recipe = override_recipe(extractor.recipe, ["features.kind=embeddings"])
    return FungiExtractor.create(recipe, extractor.backbone)


class _AllParts:
    """An extractor whose vectors are all parts side by side, as they are."""

    def __init__(self, extractor: FungiExtractor) -> None:
        self._extractor = extractor
        self.widths: list[int] = []

    @property
    def recipe(self) -> Recipe:
        return self._extractor.recipe

    def extract(self, images: torch.Tensor) -> torch.Tensor:
        parts: Parts = self._extractor.feature_parts(images)
        self.widths = [part.shape[-1] for part in parts]
        return torch.cat(parts, dim=-1).cpu()
