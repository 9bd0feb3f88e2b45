"""What ``mycelia segment --json`` says of a mask's regions, and of whether a photo is defective."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from retrieval.errors import ConfigError
from segmentation.cli.thresholds import class_columns, parse_threshold

if TYPE_CHECKING:
    from retrieval.classes import ClassMap
    from segmentation.instances import Instance
    from segmentation.segmenter import Segmentation


@dataclass(frozen=True)
class Asked:
    """The regions to list, and the thresholds to judge by."""

    columns: tuple[int, ...]
    min_area: int
    thresholds: Mapping[int, float]

    @classmethod
    def of(
        cls,
        classes: ClassMap,
        *,
        instances: str | None,
        min_area: int,
        thresholds: Sequence[str] | None,
        as_json: bool,
    ) -> Asked:
        """What options ask for; regions of all classes but background where ``instances`` names none.

        Raises ConfigError for an unknown class, a threshold outside 0..1, and regions without ``as_json``.
        """
        from segmentation.drawing.overlays import UNPAINTED

        if not as_json and (instances is not None or min_area > 1):
            raise ConfigError("--instances and --min-area choose the regions that --json lists; add --json")
        if not as_json:
            names = []
        elif instances is None:
            names = [name for name in classes.names if name.lower() not in UNPAINTED]
        else:
            names = [name.strip() for name in instances.split(",") if name.strip()]
        parsed = dict(parse_threshold(text, "--threshold") for text in thresholds or ())
        columns = class_columns(list(parsed), classes, "--threshold")
        return cls(
            tuple(class_columns(names, classes, "--instances")),
            min_area,
            dict(zip(columns, parsed.values(), strict=True)),
        )

    def entry(self, result: Segmentation, classes: ClassMap) -> dict[str, Any]:
        """What it says of one result, as plain data."""
        from segmentation.instances import find_instances
        from segmentation.scoring.defects import image_score

        regions = find_instances(
            result.columns, result.confidence, wanted=self.columns, min_area=self.min_area
        )
        scores = {column: image_score(result.pixels, column) for column in self.thresholds}
        return self.answer(regions, scores, classes)

    def answer(
        self, regions: Sequence[Instance], scores: Mapping[int, float], classes: ClassMap
    ) -> dict[str, Any]:
        """What it says of a photo's regions, and of its score for the class of each threshold."""
        found: dict[str, Any] = {"instances": [region.to_json(classes.names) for region in regions]}
        if self.thresholds:
            found["defective"] = any(scores[column] >= at for column, at in self.thresholds.items())
            found["defects"] = [
                {
                    "class": classes.names[column],
                    "score": round(scores[column], 6),
                    "threshold": at,
                    "defective": scores[column] >= at,
                }
                for column, at in self.thresholds.items()
            ]
        return found
