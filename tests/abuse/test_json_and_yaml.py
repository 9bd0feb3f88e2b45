"""JSON and YAML from outside: an error of ours or a right answer, whatever comes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.datasets.class_file import read_class_file
from indexer.datasets.class_lists import read_named_classes
from indexer.datasets.tools.files import read_json
from indexer.recipe import load_recipe
from indexer.yaml_text import parse_yaml
from retrieval.errors import ConfigError, DatasetError
from retrieval.json_text import ParseError, check_texts, parse_json, read_limited

DEEP = 100_000
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**38), 10**38) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def is_finite(data: Any) -> bool:
    try:
        json.dumps(data, allow_nan=False)
    except ValueError:
        return False
    return True


def alias_bomb() -> str:
    lines = ["a: &a [x,x,x,x,x,x,x,x,x]"]
    for before, letter in zip("abcdefgh", "bcdefghi", strict=True):
        lines.append(f"{letter}: &{letter} [{','.join([f'*{before}'] * 9)}]")
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[" * DEEP, "deeper than 100"),
        ('{"a":' * DEEP, "deeper than 100"),
        ("[" * 101 + "]" * 101, "deeper than 100"),
        ("9" * 5000, "5,000 digits"),
        ("-" + "9" * 40, "digits"),
        ('{"id": "\\ud800"}', "half a character"),
        ('{"\\uDFFF": 1}', "half a character"),
        ("Infinity", "Infinity is no number"),
        ("[-Infinity]", "-Infinity is no number"),
        ("NaN", "NaN is no number"),
        ("1e999", "too large"),
        ("[1,]", "no JSON"),
        ("", "no JSON"),
        (b"\xff", "no UTF-8"),
    ],
)
def test_json_beyond_the_limits_is_refused(text: str | bytes, said: str) -> None:
    with pytest.raises(ParseError, match=said):
        parse_json(text)


@given(PLAIN)
@settings(max_examples=60, deadline=None)
def test_json_is_read_as_it_was_written(data: Any) -> None:
    if is_finite(data):
        assert parse_json(json.dumps(data)) == data
        assert parse_json(json.dumps(data, ensure_ascii=False).encode()) == data


@given(st.binary(max_size=60) | st.text(alphabet='[]{}:,"\\ud80123eE.+-NaInfity ', max_size=60))
@settings(max_examples=150, deadline=None)
def test_any_json_is_refused_or_plain(content: bytes | str) -> None:
    try:
        data = parse_json(content)
    except ParseError:
        return
    assert is_finite(data)
    check_texts(data)


def test_names_of_files_in_our_own_json_need_not_be_texts() -> None:
    assert parse_json('["a\\udc80.png"]', own=True) == ["a\udc80.png"]


def test_a_large_file_is_not_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "large.json"
    with path.open("wb") as file:
        file.truncate(10 * 2**40)  # sparse: no disk has it
    with pytest.raises(ParseError, match="more than 1,000 bytes"):
        read_limited(path, most=1000)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[" * DEEP, "deeper than 30"),
        ("- " * DEEP + "x", "deeper than 30"),
        (alias_bomb(), "repeated ones included"),
        ("&a [*a]", "inside of what it repeats"),
        ("9" * 5000, "5,000 characters"),
        ("1:" * 60 + "1", "characters"),
        ("!!int abc", "no YAML"),
        ("!!int ''", "no YAML"),
        ("!!bool x", "no YAML"),
        ("!!timestamp x", "tag"),
        ("!!timestamp 2024-01-01", "tag"),
        ("!!binary x", "tag"),
        ("!!python/name:os.system", "tag"),
        ('"\\ud800"', "half a character"),
        ('"\\U99999999"', "no YAML"),
        ("{[1]: 2}", "no YAML"),
        ("x: " + "y" * 2**20, "bytes"),
        (b"\xff", "no YAML"),
    ],
)
def test_yaml_beyond_the_limits_is_refused(text: str | bytes, said: str) -> None:
    with pytest.raises(ParseError, match=said):
        parse_yaml(text)


def test_a_date_is_a_text_and_aliases_repeat() -> None:
    assert parse_yaml("2024-99-99") == "2024-99-99"
    assert parse_yaml("a: &a [1, 2]\nb: *a\nc: {<<: {d: 3}}") == {"a": [1, 2], "b": [1, 2], "c": {"d": 3}}


@given(PLAIN)
@settings(max_examples=60, deadline=None)
def test_yaml_is_read_as_it_was_written(data: Any) -> None:
    try:
        text = yaml.safe_dump(data, allow_unicode=True)
        expected = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):
        return
    assert parse_yaml(text) == expected


@given(st.text(alphabet="[]{}:,!&*<>|?-=#%\"'\\ \nabint0123eE._+~", max_size=60))
@settings(max_examples=150, deadline=None)
def test_any_yaml_is_refused_or_plain(text: str) -> None:
    try:
        data = parse_yaml(text)
    except ParseError:
        return
    check_texts(data)
    yaml.safe_dump(data)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[" * DEEP, "nested deeper"),
        ('{"classes": [{"id": ' + "9" * 5000 + ', "name": "a"}]}', "5,000 digits"),
        (json.dumps({"names": [f"n{number}" for number in range(70_000)]}), "70,000 entries"),
        ('{"names": ["\\ud800"]}', "half a character"),
        (json.dumps({"names": [""] * 60_000}), "59,992 more"),
    ],
)
def test_classes_beyond_the_limits_are_refused(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "classes.json"
    path.write_text(content)
    with pytest.raises(DatasetError, match=said) as caught:
        read_class_file(path)
    assert len(str(caught.value)) < 2000


@pytest.mark.parametrize("name", ["dataset_meta.json", "class_names.txt"])
def test_too_many_names_are_refused(tmp_path: Path, name: str) -> None:
    names = [f"n{number}" for number in range(70_000)]
    (tmp_path / name).write_text(json.dumps({"labels": names}) if name[-1] == "n" else "\n".join(names))
    with pytest.raises(DatasetError, match="70,000 classes"):
        read_named_classes(tmp_path)


def test_a_color_of_datumaro_has_three_bytes(tmp_path: Path) -> None:
    meta = {"labels": ["a"], "segmentation_colors": [[1, 2, 300]]}
    (tmp_path / "dataset_meta.json").write_text(json.dumps(meta))
    with pytest.raises(DatasetError, match="each 0"):
        read_named_classes(tmp_path)


def test_a_tools_file_may_say_nan_and_has_limits(tmp_path: Path) -> None:
    path = tmp_path / "coco.json"
    path.write_text('{"area": NaN}')
    assert str(read_json(path)) == "{'area': nan}"
    path.write_text("[" * DEEP)
    with pytest.raises(DatasetError, match="nested deeper"):
        read_json(path)


@pytest.mark.parametrize(
    "override",
    ["seed=2024-99-99", "seed=!!int abc", "seed=!!timestamp x", f"seed={'[' * 5000}", f"seed={'9' * 5000}"],
)
def test_an_override_beyond_the_limits_is_refused(override: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_recipe(None, [override])
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("content", [alias_bomb(), "seed: 2024-99-99", "seed: " + "{a: " * 5000])
def test_a_recipe_beyond_the_limits_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(content)
    with pytest.raises(ConfigError) as caught:
        load_recipe(path)
    assert len(str(caught.value)) < 1000
