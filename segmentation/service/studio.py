"""What Label Studio's requests mean: the names of its labelling interface, and predictions in its words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

from retrieval.classes import ClassMap
from segmentation.segmenter import Segmentation
from segmentation.service.answers import exporter_settings, format_of, labelled
from segmentation.service.errors import bad_request

#: Tags of labelling interfaces, and the export format that speaks to each.
_TAGS = {"BrushLabels": "label-studio", "PolygonLabels": "label-studio-polygons"}

#: Of a labelling interface, characters.
_MOST_TEXT = 200_000


@dataclass(frozen=True)
class Interface:
    """The parts of a labelling interface that predictions name."""

    format: str = "label-studio"
    from_name: str = "label"
    to_name: str = "image"
    value: str = "image"
    """The key of a task's data that holds the image."""

    @classmethod
    def parse(cls, text: Any) -> Interface:
        """Of the XML of a project; the usual names without one. Raises ServiceError 400."""
        if not isinstance(text, str) or not text.strip():
            return cls()
        if len(text) > _MOST_TEXT or "<!" in text.replace("<!--", ""):  # no entities, so none that explode
            raise bad_request("the labelling interface is too long or declares a document type")
        try:
            root = ElementTree.fromstring(text)
        except (ElementTree.ParseError, ValueError):
            raise bad_request("the labelling interface is no XML") from None
        for tag, format in _TAGS.items():
            control = root.find(f".//{tag}")
            if control is not None:
                to_name = control.get("toName", "image").split(",")[0]
                image = next((each for each in root.iter("Image") if each.get("name") == to_name), None)
                value = image.get("value", "$image") if image is not None else "$image"
                return cls(format, control.get("name", "label"), to_name, value.lstrip("$"))
        return cls()

    def address(self, task: dict[str, Any]) -> Any:
        """Where a task's image is, as it says."""
        data = task.get("data")
        return data.get(self.value) if isinstance(data, dict) else None

    def prediction(self, result: Segmentation, classes: ClassMap, version: str) -> dict[str, Any]:
        """One task's prediction."""
        format = format_of(self.format)
        assert format.run_file is not None
        record = format.run_file.record(labelled("image", result, exporter_settings(classes)))
        made = record["predictions"][0]
        regions = [{**each, "from_name": self.from_name, "to_name": self.to_name} for each in made["result"]]
        return {"result": regions, "score": made.get("score", 0.0), "model_version": f"mycelia-{version}"}


def no_prediction(version: str, reason: str) -> dict[str, Any]:
    """What stands for the prediction of a task whose image could not be had."""
    return {"result": [], "score": 0.0, "model_version": f"mycelia-{version}", "error": reason}
