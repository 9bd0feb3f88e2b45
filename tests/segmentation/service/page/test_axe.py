"""What axe-core (WCAG 2.2 AA) says of the page, in each view, width and theme."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.segmentation.service.conftest import encoded
from tests.segmentation.service.page.conftest import DESKTOP, PHONE, Visit, playwright, scene

AXE = Path(__file__).parents[4] / "tools" / "page" / "node_modules" / "axe-core" / "axe.min.js"
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]

pytestmark = pytest.mark.skipif(not AXE.exists(), reason="axe-core is not installed: cd tools/page && npm ci")


def violations(page: Any) -> list[str]:
    """All that axe-core objects to, as ``rule: element``."""
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("tags => axe.run({ runOnly: tags })", TAGS)
    return [f"{rule['id']}: {node['html'][:120]}" for rule in found["violations"] for node in rule["nodes"]]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_axe_finds_nothing(
    address: str, visit: Callable[..., Visit], viewport: dict[str, int], scheme: str
) -> None:
    seen = visit(address, viewport=viewport, color_scheme=scheme)
    page = seen.page
    assert violations(page) == []
    seen.open("scene.png", encoded(scene()))
    seen.click(20, 30)
    playwright.expect(page.locator("#why .vote").first).to_be_visible()
    assert violations(page) == []
    page.locator("#why .vote").first.click()
    playwright.expect(page.get_by_role("dialog")).to_be_visible()
    assert violations(page) == []
    page.keyboard.press("Escape")
    page.locator("#help").click()
    assert violations(page) == []
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Memory", exact=True).click()
    playwright.expect(page.locator("#suspicious-count")).not_to_be_empty()
    assert violations(page) == []
