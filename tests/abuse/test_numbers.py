"""Every number of a recipe and of the command has its range, checked before any work."""

from __future__ import annotations

from typing import Any

import pytest
import typer
from pydantic import BaseModel

from indexer.recipe import Recipe, config_folder, load_recipe
from retrieval.engines.qdrant.connection import parse_address
from retrieval.errors import ConfigError
from segmentation.cli.search import parse_position
from segmentation.cli.tune import parse_numbers
from segmentation.tuning.groups import group_names


@pytest.mark.parametrize(
    "override",
    [
        "seed=18446744073709551616",
        "seed=-9223372036854775809",
        "bank.epochs=100000000",
        "bank.max_patches=99999999999999999999",
        "image.size=[160000,160000]",
        "image.size=[8192,8192]",
        "image.size=[0,5]",
        "image.auto_size=[160000,1]",
        "features.projection_width=1000000000",
        "objective.infonce.head_width=1000000000000",
        "objective.kl.head_width=1000000000000",
        "objective.temperature=1e-300",
        "objective.weights=[.nan]",
        "objective.weights=[1e-300]",
        "transfer.temperature=1e-300",
        "transfer.k=10000000000",
        "runtime.batch_size=1000000000",
        "backbone.block=10000000000",
        "backbone.blocks=[7,10000000000]",
        "bank.augmentation.scale=[1.0,1.0e+300]",
        "index.qdrant.oversampling=.nan",
        "index.qdrant.m=1000000000",
        "index.faiss.nprobe=100000000000",
        "index.qdrant.url=http://h:99999",
        "index.qdrant.url=http://h:0",
        "index.qdrant.url=http://h:p",
        'index.qdrant.url="http://[::1"',
    ],
)
def test_a_number_out_of_its_range_is_refused(override: str) -> None:
    with pytest.raises(ConfigError, match="does not fit") as caught:
        load_recipe(None, [override])
    assert override.partition("=")[0].rpartition(".")[2] in str(caught.value)


@pytest.mark.parametrize(
    "override",
    ["seed=18446744073709551615", "seed=-1", "image.size=[4096,4096]", "transfer.temperature=0.001"],
)
def test_a_number_at_the_end_of_its_range_is_taken(override: str) -> None:
    load_recipe(None, [override])


def unlimited(model: type[BaseModel], prefix: str = "") -> list[str]:
    """The numbers of a section, and of those below it, that have no largest value."""
    found = []
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found += unlimited(field.annotation, f"{prefix}{name}.")
        elif field.annotation in (int, float, int | None, float | None):
            ends: list[Any] = [getattr(limit, end, None) for limit in field.metadata for end in ("lt", "le")]
            found += [] if any(end is not None for end in ends) else [prefix + name]
    return found


def test_every_number_of_a_recipe_has_a_largest_value() -> None:
    assert unlimited(Recipe) == []


@pytest.mark.parametrize("path", sorted(config_folder().glob("*.yaml")), ids=lambda path: path.stem)
def test_the_recipes_that_come_along_are_within_the_ranges(path: Any) -> None:
    load_recipe(path)


@pytest.mark.parametrize("text", ["9" * 5000 + ",1", "1," + "9" * 5000, "1e3,1", "-1,2", "²,1"])
def test_a_position_has_few_digits(text: str) -> None:
    with pytest.raises(typer.BadParameter) as caught:
        parse_position(text)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("text", ["nan", "0,inf", "1e300", "9" * 5000, "1,,2"])
def test_numbers_to_try_are_finite(text: str) -> None:
    for kind in (int, float):
        with pytest.raises(ConfigError, match="--weights") as caught:
            parse_numbers("--weights", text, kind)
        assert len(str(caught.value)) < 200
    assert parse_numbers("--weights", "0,0.5", float) == [0, 0.5]


@pytest.mark.parametrize("rule", ["9" * 5000, "a{99999999999999999999}", "(" * 900, "["])
def test_a_rule_of_groups_is_refused(rule: str) -> None:
    with pytest.raises(ConfigError, match="--group"):
        group_names(["a1", "b2"], rule)


@pytest.mark.parametrize(
    "address",
    ["qdrant://h:p/x", "qdrant://h:99999/x", "qdrant://h:0/x", "qdrant://h:65535/x", "qdrant://[::1/x"],
)
def test_an_address_without_a_port_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match="is no address of a collection"):
        parse_address(address)


def test_an_address_of_ipv6_keeps_its_brackets() -> None:
    assert parse_address("qdrant://[::1]:7000/x").url == "http://[::1]:7000"
    assert parse_address("qdrants://h/x").url == "https://h:6333"
