"""What ``benchmarks/peer.py`` runs, each side in a process of its own (``-m benchmarks.peer_sides JOB``).

A job is a JSON file, see :class:`Job`. Nothing heavy is imported before the clock runs.
"""

from __future__ import annotations

import importlib
import json
import random
import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

RECIPE = "voc-dinov2-s14.yaml"


@dataclass(frozen=True)
class Job:
    """What one process does, and where its answer goes."""

    side: str
    """One of :data:`SIDES`."""
    begun: float
    """Time of its start, in seconds since the epoch."""
    answer: str
    """File for seconds by stage, and mIoU where the side finds one."""
    overrides: list[str]
    """Settings other than the recipe's."""
    data: str = ""
    """Pascal VOC in the layout of the side."""
    lists: dict[str, str] = field(default_factory=dict)
    """Split -> file of the images' ids."""
    batch: int = 4
    precision: str = "float32"
    """Of the bare passes."""
    words: list[str] = field(default_factory=list)
    """Words of our command."""
    stage: str = ""
    """What our command does once everything is loaded."""


class Clock:
    """Wall and CPU seconds of a process by stage, from its very start; a stage may be entered again."""

    def __init__(self, begun: float) -> None:
        self.stages: dict[str, list[float]] = {}
        self._stage, self._since = "load", (begun, 0.0)

    def enter(self, stage: str) -> None:
        """What came until now belongs to the stage before."""
        now = time.time(), sum(map(_cpu_seconds, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))
        spent = self.stages.setdefault(self._stage, [0.0, 0.0])
        for which, (before, after) in enumerate(zip(self._since, now, strict=True)):
            spent[which] += after - before
        self._stage, self._since = stage, now


def _cpu_seconds(who: int) -> float:
    usage = resource.getrusage(who)
    return usage.ru_utime + usage.ru_stime


def command(job: Job, clock: Clock) -> None:
    """One of our commands as a user runs it; its first sign of progress ends the loading."""
    from segmentation.cli import main
    from segmentation.cli.progress import ProgressDisplay

    shown = ProgressDisplay.__call__

    def hear(display: ProgressDisplay, event: Any) -> None:
        if not clock.stages:
            clock.enter(job.stage)
        shown(display, event)

    ProgressDisplay.__call__ = hear  # type: ignore[method-assign, assignment]
    sys.argv = ["mycelia", *job.words]
    main()


def peer(job: Job, clock: Clock) -> float:
    """The peers' evaluation with the recipe's model on the CPU: its mIoU, 0..1."""
    module: Any = importlib.import_module("hbird.hbird_eval")
    use_cpu_index(importlib.import_module("faiss"))
    import torch

    from indexer.recipe import load_recipe

    recipe = load_recipe(RECIPE, job.overrides)
    size, model = recipe.image.fixed_size, timm_model(job.overrides)
    prefix, patch = model.num_prefix_tokens, model.patch_embed.patch_size
    if len({*size}) > 1 or len({*patch}) > 1:
        sys.exit(f"the peers' code takes square images and patches; image.size is {list(size)}")
    random.seed(recipe.seed)
    torch.manual_seed(recipe.seed)

    class Timed(module.HbirdEvaluation):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            clock.enter("memory")
            super().__init__(*args, **kwargs)
            clock.enter("evaluate")

    module.HbirdEvaluation = Timed
    return float(
        module.hbird_evaluation(
            model,
            d_model=model.num_features,
            patch_size=patch[0],
            dataset_name="voc",
            data_dir=job.data,
            batch_size=job.batch,
            input_size=size[0],
            augmentation_epoch=recipe.bank.epochs,
            device="cpu",
            n_neighbours=recipe.transfer.k,
            nn_method="faiss",
            ftr_extr_fn=lambda vit, images: (vit.forward_features(images)[:, prefix:], None),
            memory_size=None,
            num_workers=0,
            train_fs_path=job.lists["trainaug"],
            val_fs_path=job.lists["val"],
        )
    )


def use_cpu_index(faiss: Any) -> None:
    """Have code for FAISS's flat index on a GPU get the flat index on the CPU, from the same calls."""

    class Config:
        useFloat16, device = False, 0  # noqa: N815  FAISS's name

    faiss.get_num_gpus = lambda: 1
    faiss.StandardGpuResources = object
    faiss.GpuIndexFlatConfig = Config
    faiss.GpuIndexFlatIP = lambda _, width, __: faiss.IndexFlatIP(width)


def passes(job: Job, clock: Clock) -> None:
    """The model's forward passes over the same images, in batches, and nothing else in their stages."""
    import numpy as np
    import torch
    from PIL import Image

    from indexer.recipe import load_recipe

    height, width = load_recipe(RECIPE, job.overrides).image.fixed_size
    model = timm_model(job.overrides)
    mean, std = (torch.tensor(model.pretrained_cfg[name]).view(3, 1, 1) for name in ("mean", "std"))
    low = torch.autocast("cpu", dtype=torch.bfloat16, enabled=job.precision == "bfloat16")

    def read(name: str) -> torch.Tensor:
        with Image.open(Path(job.data, "images", f"{name}.jpg")) as photo:
            pixels = np.asarray(photo.convert("RGB").resize((width, height)), dtype=np.float32)
        return (torch.from_numpy(pixels / 255).permute(2, 0, 1) - mean) / std

    for split, stage in (("trainaug", "memory"), ("val", "evaluate")):
        names = Path(job.lists[split]).read_text().split()
        for start in range(0, len(names), job.batch):
            images = torch.stack([read(name) for name in names[start : start + job.batch]])
            clock.enter(stage)
            with torch.inference_mode(), low:
                model.forward_features(images)
            clock.enter("load")


def timm_model(overrides: Sequence[str]) -> Any:
    """The recipe's ViT at the recipe's size, as all sides have it: weights and last norm."""
    from indexer.features.weights import create_model
    from indexer.recipe import load_recipe

    recipe = load_recipe(RECIPE, list(overrides))
    model: Any = create_model(recipe.backbone.model, recipe.backbone.weights, seed=recipe.seed)
    model.set_input_size(img_size=recipe.image.fixed_size)
    return model


SIDES: dict[str, Callable[[Job, Clock], float | None]] = {"command": command, "peer": peer, "passes": passes}


def main() -> None:
    """Do the job of the file named on the command line."""
    job = Job(**json.loads(Path(sys.argv[1]).read_text()))
    clock, miou = Clock(job.begun), None
    try:
        miou = SIDES[job.side](job, clock)
    finally:
        clock.enter("end")
        Path(job.answer).write_text(json.dumps({"stages": clock.stages, "miou": miou}))


if __name__ == "__main__":
    main()
