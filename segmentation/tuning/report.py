"""What a tuning of patches found."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from indexer.recipe import Recipe
from segmentation.tuning.choice import Choice
from segmentation.tuning.engine import EngineChoice
from segmentation.tuning.expectation import Expectation
from segmentation.tuning.settings import Setting


@dataclass(frozen=True)
class Row:
    """A setting in a round: its pooled mIoU over left-out groups, and how far below the round's best."""

    setting: Setting
    miou: float
    behind: float
    error: float
    """The standard error of ``behind``, paired."""
    round: str = "finals"


@dataclass(frozen=True)
class TuningReport:
    """What was chosen, why, and what to expect of it."""

    recipe: Recipe
    """Of the choice that is to be written."""
    written: str
    """Its name."""
    choices: tuple[Choice, ...]
    """fast, balanced and best."""
    plain: Row
    """Plain embeddings, which gains and limits of time refer to."""
    base: Row | None
    """The base recipe's own setting, where it was among those tried."""
    rows: tuple[Row, ...]
    """Of the finals."""
    earlier: tuple[Row, ...]
    """Of the rounds before, on fewer images."""
    engine: EngineChoice
    notes: tuple[str, ...]
    """What could not be scored, a sentence each."""
    images: int
    queries: int
    groups: int | None
    seconds: float
    processor_seconds: float
    """Of all threads: what other work on the machine hardly changes."""

    @property
    def choice(self) -> Choice:
        """The choice that is to be written."""
        return next(choice for choice in self.choices if choice.name == self.written)

    @property
    def chosen(self) -> Setting:
        """Its setting."""
        return self.choice.setting

    @property
    def near(self) -> Expectation:
        """What to expect of it on images like the memory's."""
        return self.choice.near

    @property
    def new(self) -> Expectation | None:
        """What to expect of it on images of a new group; None where no groups were given."""
        return self.choice.new

    @property
    def interval(self) -> tuple[float, float]:
        """The lowest and the highest mIoU, 0..1, that either expectation allows."""
        return self.choice.interval

    def to_json(self) -> dict[str, Any]:
        """Plain data for strict JSON; shares in 0..1, times in milliseconds an image."""
        return {
            "chosen": asdict(self.chosen),
            "written": self.written,
            "expected": expected_json(self.choice),
            "choices": {choice.name: _choice_json(choice) for choice in self.choices},
            "plain": asdict(self.plain),
            "index": {
                "reason": self.engine.reason,
                "trials": [asdict(trial) for trial in self.engine.trials],
            },
            "settings": [asdict(row) for row in (*self.rows, *self.earlier)],
            "notes": list(self.notes),
            "images": self.images,
            "queries": self.queries,
            "groups": self.groups,
            "seconds": self.seconds,
            "processor_seconds": self.processor_seconds,
            "recipe": self.recipe.model_dump(mode="json"),
        }


def expected_json(choice: Choice) -> dict[str, Any]:
    """What to expect of a choice, as plain data."""
    low, high = choice.interval
    return {
        "low": low,
        "high": high,
        "like_memory": choice.near.to_json("miou"),
        "new_group": choice.new.to_json("miou") if choice.new else None,
    }


def _choice_json(choice: Choice) -> dict[str, Any]:
    return {
        "setting": asdict(choice.setting),
        "miou": choice.miou,
        "gain": choice.gain,
        "milliseconds": {**asdict(choice.cost), "total": choice.cost.total},
        "expected": expected_json(choice),
    }
