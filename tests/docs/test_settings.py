"""The list of settings says what the code takes."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from pydantic import BaseModel, Field

Script = Callable[[str], ModuleType]


class Inner(BaseModel):
    """The inner section."""

    rate: float | None = Field(None, gt=0, description="a | b")


class Outer(BaseModel):
    """The outer section.

    With more to say.
    """

    inner: Inner = Inner()
    size: tuple[int, int] = (3, 4)


def test_the_page_is_in_step(root: Path, docs_script: Script) -> None:
    page = (root / "docs" / "settings.md").read_text(encoding="utf-8")
    assert page == docs_script("make_settings").settings_page(), "run: python docs/make_settings.py"


def test_every_key_has_a_meaning(docs_script: Script) -> None:
    script = docs_script("make_settings")
    from indexer.recipe import Recipe

    keys = [
        f"{prefix}.{name}"
        for prefix, model in script.sections(Recipe)
        for name, field in model.model_fields.items()
        if script.section_of(field) is None and not field.description
    ]
    assert keys == []
    assert [prefix for prefix, model in script.sections(Recipe) if not model.__doc__] == []


def test_sections_of_sections_are_listed(docs_script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    script = docs_script("make_settings")
    monkeypatch.setattr(script, "Recipe", Outer)
    page = script.settings_page()
    assert "The outer section.\n" in page and "With more" not in page
    assert "| `size` |  | [whole number, whole number] | `[3, 4]` |" in page
    assert "## `inner`\n\nThe inner section.\n" in page
    assert r"| `inner.rate` | a \| b | number, > 0 | empty (`null`) |" in page


def test_every_recipe_is_named(root: Path) -> None:
    page = (root / "docs" / "settings.md").read_text(encoding="utf-8")
    recipes = sorted(path.name for path in (root / "configs").glob("*.yaml"))
    assert recipes
    assert [name for name in recipes if f"`{name}`" not in page] == []


def test_settings_that_pages_name_exist(root: Path, docs_script: Script) -> None:
    script = docs_script("make_settings")
    from indexer.recipe import Recipe

    found = dict(script.sections(Recipe))
    keys = {f"{prefix}.{name}" for prefix, model in found.items() for name in model.model_fields}
    keys |= {f"{prefix}.*" for prefix in found}
    pages = [*root.glob("*.md"), *(root / "docs").glob("*.md")]
    unknown = {
        (page.name, name)
        for page in pages
        if page.name != "CHANGELOG.md"  # which names keys as they were
        for name in settings_in(page.read_text(encoding="utf-8"), found)
        if name not in keys
    }
    assert unknown == set()


def settings_in(text: str, sections: dict[str, type[BaseModel]]) -> list[str]:
    """The dotted keys that a page names in code."""
    tops = "|".join(prefix for prefix in sections if prefix and "." not in prefix)
    code = " ".join(re.findall(r"`([^`\n]+)`", text))
    return re.findall(rf"(?<![\w./-])((?:{tops})\.(?:\w+\.)*(?:\w+|\*))(?![\w/(])", code)


def test_a_setting_that_is_not_there_is_found() -> None:
    named = settings_in(
        "`inner.gone=3 inner.rate` inner.not `x/inner.py` `inner.*: 4`", {"": Outer, "inner": Inner}
    )
    assert named == ["inner.gone", "inner.rate", "inner.*"]
