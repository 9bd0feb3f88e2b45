"""The frozen model's share of many extractors: images up to the cut, once for each block, for all seeds."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.command import track
from indexer.bank.describe import prepare_job
from indexer.bank.fitting import samples_to_fit
from indexer.bank.jobs import jobs_of
from indexer.datasets import Dataset
from indexer.features.cut import Cut
from indexer.features.fungi import FungiExtractor
from indexer.images import Geometry
from retrieval.errors import ConfigError

BATCH = 4

States = npt.NDArray[np.float16]


@dataclass(frozen=True)
class Cuts:
    """The images of a data set at the cut of one block, and the labels of their patches."""

    dataset: Dataset
    geometries: list[Geometry]
    counts: list[npt.NDArray[np.int64]]
    """Mask pixels of each class in every patch, (T, C) an image."""
    states: States
    """(images, N, E + A): the residual stream, then the input of the attention's projection."""
    width: int
    """E."""

    def __len__(self) -> int:
        return len(self.states)

    def of(self, images: Sequence[int], device: torch.device) -> Cut:
        """The cut of some images, float32."""
        states = torch.from_numpy(self.states[list(images)]).to(device).float()
        return Cut(states[..., : self.width].contiguous(), states[..., self.width :].contiguous())

    def batches(self, images: Sequence[int], device: torch.device) -> Iterator[Cut]:
        """The cuts of some images, a few at a time."""
        for start in range(0, len(images), BATCH):
            yield self.of(images[start : start + BATCH], device)


def make_cuts(extractor: FungiExtractor, dataset: Dataset, cache: Path | None) -> Cuts:
    """Run the images of a data set up to the extractor's block; the states are kept in the folder ``cache``.

    Raises ImageError or MaskError for a bad image or mask, ConfigError for states beyond float16.
    """
    backbone = extractor.backbone
    shape = (len(dataset), backbone.prefix_tokens + backbone.tokens, sum(_widths(extractor)))
    known = None if cache is None else cache / f"cuts-{_digest(extractor, dataset)}.npy"
    stored = known is not None and known.is_file()
    states: States = (
        np.load(known, mmap_mode="r") if known is not None and stored else np.empty(shape, np.float16)
    )
    geometries: list[Geometry] = []
    counts: list[npt.NDArray[np.int64]] = []
    jobs = jobs_of(dataset.samples, epochs=1)
    with track(f"block {backbone.block}: {dataset.split}", len(jobs)) as task:
        for start in range(0, len(jobs), BATCH):
            items = [prepare_job(extractor, dataset, job, plain=True) for job in jobs[start : start + BATCH]]
            geometries += [item.geometry for item in items]
            counts += [item.counts for item in items]
            if not stored:
                cut = backbone.cut(torch.stack([item.tensor for item in items]))
                states[start : start + len(items)] = _halved(cut, backbone.block)
            task.advance(len(items))
    if known is not None and not stored:
        _keep(states, known)
    return Cuts(dataset, geometries, counts, states, backbone.width)


def fit_on_cuts(extractor: FungiExtractor, cuts: Cuts) -> None:
    """Fit the extractor on the images that a build of this memory would fit it on."""
    if not extractor.passes_to_fit:
        return
    chosen = {sample.id for sample in samples_to_fit(cuts.dataset.samples)}
    images = [i for i, sample in enumerate(cuts.dataset.samples) if sample.id in chosen]
    extractor.fit(lambda: cuts.batches(images, extractor.backbone.device), images=len(images))


def _widths(extractor: FungiExtractor) -> tuple[int, int]:
    """(E, A)."""
    weight, _ = extractor.backbone.projection
    return weight.shape[0], weight.shape[1]


def _halved(cut: Cut, block: int) -> States:
    states = torch.cat([cut.residual, cut.activation], dim=-1).half()
    if not bool(torch.isfinite(states).all()):
        raise ConfigError(
            f"block {block}: the model's states leave the range of float16, in which they are kept; "
            "choose another block or model"
        )
    halved: States = states.cpu().numpy()
    return halved


def _digest(extractor: FungiExtractor, dataset: Dataset) -> str:
    """What decides the states, as a word."""
    made_of = extractor.fingerprints
    images = [(str(s.image.resolve()), s.image.stat().st_mtime_ns) for s in dataset.samples]
    said: list[object] = [made_of["weights"], made_of["preprocessing"], extractor.backbone.block]
    said += [extractor.backbone.precision, images]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16]


def _keep(states: States, path: Path) -> None:
    """Write the states; a run that is stopped leaves no half of them under their name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(f".{os.getpid()}.tmp")
    with unfinished.open("wb") as file:
        np.save(file, states)
    unfinished.replace(path)
