"""Images that features are fitted on run through the model once: described later, they go on from its cut."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from indexer.bank.fitting import samples_to_fit
from indexer.bank.reading import read_sample
from indexer.datasets import Sample
from indexer.features.cut import Cut
from indexer.features.fungi import FungiExtractor
from retrieval.progress import Progress, track

#: Bytes of cuts that are kept at most; what is over is computed again.
MOST_BYTES = 2**29

#: The cut of one image, (N, .) each, by the id of its sample.
Cuts = dict[str, Cut]


def fit_keeping_cuts(
    extractor: FungiExtractor, samples: Sequence[Sample], *, progress: Progress | None = None
) -> Cuts:
    """Fit the extractor as :func:`indexer.bank.fitting.fit_on_samples`, and return the cuts of its images.

    Raises ImageError for a bad image.
    """
    kept: Cuts = {}
    if not extractor.passes_to_fit:
        return kept
    chosen, size = samples_to_fit(samples), extractor.recipe.runtime.batch_size
    with track(progress, "fitting features", len(chosen) * extractor.passes_to_fit) as task:

        def batches() -> Iterator[Cut]:
            held = 0
            for start in range(0, len(chosen), size):
                some = chosen[start : start + size]
                prepared = [extractor.prepare_one(read_sample(extractor, sample)) for sample in some]
                cut = extractor.backbone.cut(extractor.collate(prepared))
                held += sum(part.nbytes for part in (cut.residual, cut.activation))
                if held <= MOST_BYTES:
                    kept.update((sample.id, _image_of(cut, n)) for n, sample in enumerate(some))
                task.advance(len(some))
                yield cut

        extractor.fit(batches, images=len(chosen))
    return kept


def _image_of(cut: Cut, number: int) -> Cut:
    return Cut(cut.residual[number], cut.activation[number], tuple(part[number] for part in cut.earlier))


def cut_or_images(
    extractor: FungiExtractor, images: Sequence[Tensor], known: Sequence[Cut | None]
) -> Tensor | Cut:
    """What images (3, H, W) are described from: their cut where some are known, else (B, 3, H, W)."""
    if not any(known):
        return torch.stack(list(images))
    unknown = [image for image, cut in zip(images, known, strict=True) if cut is None]
    fresh = extractor.backbone.cut(torch.stack(unknown)) if unknown else None
    numbers, ordered = iter(range(len(unknown))), []
    for cut in known:
        if cut is not None:
            ordered.append(cut)
        elif fresh is not None:
            ordered.append(_image_of(fresh, next(numbers)))
    residuals, activations, earlier = zip(*ordered, strict=True)
    return Cut(
        torch.stack(residuals), torch.stack(activations),
        tuple(torch.stack(parts) for parts in zip(*earlier, strict=True)),
    )  # fmt: skip
