"""DINO's self-distillation between crops of one image, teacher and student being the same frozen model.

Source: *No Train, all Gain* (NeurIPS 2024), section 3, and ``DINOConfig`` of ``fungivision``, which also
compares a global crop with itself.
"""

from __future__ import annotations

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from indexer.features.objectives.base import Objective, Views, random_head, seeded
from indexer.objective_settings import DINOSettings


class DINO(Objective):
    """Cross-entropy of every crop's softmax to that of each global crop, through two fixed heads."""

    name: ClassVar[str] = "dino"
    views: ClassVar[Views] = "crops"
    of_patches: ClassVar[bool] = False

    def __init__(self, settings: DINOSettings) -> None:
        """With the settings of its section."""
        self.settings = settings

    def random_tensors(self, width: int, seed: int) -> dict[str, Tensor]:
        """``dino.student_*`` and ``dino.teacher_*``, weight and bias of each."""
        generator, tensors = seeded(seed, "dino"), dict[str, Tensor]()
        for role in ("student", "teacher"):
            weight, bias = random_head(width, self.settings.head_width, generator=generator)
            tensors |= {f"dino.{role}_weight": weight, f"dino.{role}_bias": bias}
        return tensors

    def latents(self, embeddings: Tensor, tensors: dict[str, Tensor]) -> Tensor:
        """The student's output for unit embeddings."""
        unit = F.normalize(embeddings, dim=-1)
        return F.linear(unit, tensors["dino.student_weight"], tensors["dino.student_bias"])

    def loss(self, embeddings: Tensor, tensors: dict[str, Tensor], negatives: Tensor | None) -> Tensor:
        """``sum_{g, v} -softmax(teacher(g) / Tt) . log softmax(student(v) / Ts)``.

        The first ``global_crops`` of the N views are the teacher's, whose side has no gradient.
        """
        settings = self.settings
        seen = F.normalize(embeddings[:, : settings.global_crops].detach(), dim=-1)
        teacher = F.linear(seen, tensors["dino.teacher_weight"], tensors["dino.teacher_bias"])
        wanted = F.softmax(teacher / settings.teacher_temperature, dim=-1)  # (B, G, d)
        given = F.log_softmax(self.latents(embeddings, tensors) / settings.student_temperature, dim=-1)
        return -(wanted.sum(dim=1) * given.sum(dim=1)).sum()
