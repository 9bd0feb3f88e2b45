from __future__ import annotations

import pytest

from retrieval.errors import ConfigError
from segmentation import evaluate
from segmentation.scoring import room


def test_tables_that_find_no_room_are_refused_with_the_numbers(monkeypatch) -> None:
    monkeypatch.setattr(room, "machine_memory", lambda: 16 * 2**30)
    said = r"65,536 classes takes 2 tables of 65,536 x 65,536 counts, 64.0 GiB, .* 16.0 GiB of memory"
    with pytest.raises(ConfigError, match=said):
        room.check_room(65_536, tables=2)
    room.check_room(1000, tables=4)


def test_evaluate_asks_before_it_takes_them(world, dataset, scene, monkeypatch) -> None:
    subject, data = world(), dataset([scene(0, (48, 90))])
    monkeypatch.setattr(room, "machine_memory", lambda: 8 * 4**2 * 2 * 2 - 1)  # of 4 classes, a byte too few
    with pytest.raises(ConfigError, match="scoring 4 classes takes 2 tables"):
        evaluate(subject, data)
    monkeypatch.setattr(room, "machine_memory", lambda: 8 * 4**2 * 2 * 2)
    assert evaluate(subject, data).images == 1


def test_a_machine_has_memory() -> None:
    assert room.machine_memory() > 2**20
