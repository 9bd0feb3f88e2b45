"""A real browser before a real service: what the tests of the page need of both."""

from __future__ import annotations

import base64
import contextlib
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("uvicorn")
pytest.importorskip("playwright.sync_api")

import playwright.sync_api as playwright
import uvicorn

from segmentation.segmenter import Segmenter
from segmentation.service.app import create_app
from segmentation.service.security import Keys
from segmentation.service.settings import ServiceSettings

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
)
DESKTOP, PHONE = {"width": 1360, "height": 860}, {"width": 390, "height": 844}

#: Draws an image as a drop of a file would give it.
_TRANSFER = """files => {
  const carried = new DataTransfer();
  for (const [name, type, text] of files) {
    const bytes = Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
    carried.items.add(new File([bytes], name, { type }));
  }
  return carried;
}"""


def scene(size: tuple[int, int] = (192, 280)) -> np.ndarray:
    """Dark left, bright right, and a red square in the bright half that no class of the memory is like."""
    photo = np.random.default_rng(7).integers(0, 80, size=(*size, 3))
    photo[:, size[1] // 2 :] += 150
    photo[48:144, 176:256] = (190, 20, 30)
    return photo.astype(np.uint8)


def truth(size: tuple[int, int] = (192, 280)) -> np.ndarray:
    """The ids of dark and bright."""
    mask = np.zeros(size, dtype=np.uint8)
    mask[:, size[1] // 2 :] = 1
    return mask


@dataclass
class Visit:
    """A page that is open, and what went wrong on it."""

    page: Any
    address: str
    problems: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)

    def drop(self, *files: tuple[str, bytes]) -> None:
        """Let PNG files fall on the page."""
        packed = [(name, "image/png", base64.b64encode(content).decode()) for name, content in files]
        self.page.dispatch_event(
            "body", "drop", {"dataTransfer": self.page.evaluate_handle(_TRANSFER, packed)}
        )

    def open(self, name: str, content: bytes) -> None:
        """Drop a photo, and wait for its mask."""
        self.drop((name, content))
        self.says(re.compile(f"{re.escape(name)}: segmented in"))

    def says(self, text: str | re.Pattern[str]) -> None:
        """Wait until the status has this."""
        playwright.expect(self.page.locator("#status")).to_contain_text(text, timeout=30_000)

    def at(self, row: int, col: int, size: tuple[int, int] = (192, 280)) -> tuple[float, float]:
        """Where on the screen a pixel of the photo is, when all of it is shown."""
        self.page.locator("#stage").scroll_into_view_if_needed()
        box = self.page.locator("#stage").bounding_box()
        scale = min(box["width"] / size[1], box["height"] / size[0])
        left = box["x"] + (box["width"] - size[1] * scale) / 2
        top = box["y"] + (box["height"] - size[0] * scale) / 2
        return left + (col + 0.5) * scale, top + (row + 0.5) * scale

    def click(self, row: int, col: int) -> None:
        """Click a pixel."""
        self.page.mouse.click(*self.at(row, col))

    def class_at(self, row: int, col: int) -> str:
        """The class that the page names under the pointer."""
        self.page.mouse.move(*self.at(row, col))
        return str(self.page.locator("#readout").inner_text()).partition(",")[0]


#: Of a module, not the session: while playwright runs, no other test may run an event loop.
@pytest.fixture(scope="module")
def launch() -> Iterator[Callable[..., Any]]:
    """``launch("--more")``: a browser, closed at the end."""
    if not CHROMIUM.exists():
        pytest.skip(f"there is no browser at {CHROMIUM}")
    with playwright.sync_playwright() as started:
        yield lambda *more: started.chromium.launch(
            executable_path=str(CHROMIUM), args=[*ARGUMENTS, *more], timeout=60_000
        )


@pytest.fixture(scope="module")
def chromium(launch: Callable[..., Any]) -> Iterator[Any]:
    browser = launch()
    yield browser
    browser.close()


@pytest.fixture
def no_graphics(launch: Callable[..., Any]) -> Iterator[Any]:
    """A browser without WebGL."""
    browser = launch("--disable-3d-apis")
    yield browser
    browser.close()


@contextlib.contextmanager
def running(index: Path, keys: Keys | None = None, **settings: Any) -> Iterator[str]:
    """The address of a service of its own."""
    app = create_app(lambda: Segmenter.open(index), index, settings=ServiceSettings(**settings), keys=keys)
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        port = place.getsockname()[1]
    server = uvicorn.Server(
        uvicorn.Config(app, host="127.0.0.1", port=port, log_level="error", ws="none", lifespan="on")
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until = time.monotonic() + 60
        while not server.started and thread.is_alive() and time.monotonic() < until:
            time.sleep(0.02)
        assert server.started
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture
def address(index: Path) -> Iterator[str]:
    """A service that may be taught."""
    with running(index) as address:
        yield address


@pytest.fixture
def visit(chromium: Any) -> Iterator[Callable[..., Visit]]:
    """``visit(address, viewport=PHONE)``: the page; console errors and foreign requests fail the test."""
    contexts, visits = [], []

    def open(
        address: str, *, ready: bool = True, allowed: str = "", browser: Any = chromium, **options: Any
    ) -> Visit:
        context = browser.new_context(**{"viewport": DESKTOP, **options})
        contexts.append(context)
        page = context.new_page()
        seen = Visit(page, address)
        visits.append(seen)

        def told(message: Any) -> None:
            if message.type == "error" and not (allowed and re.search(allowed, message.text)):
                seen.problems.append(message.text)

        def asked(request: Any) -> None:
            if not request.url.startswith((address, "data:", f"blob:{address}")):
                seen.elsewhere.append(request.url)

        page.on("console", told)
        page.on("pageerror", lambda error: seen.problems.append(str(error)))
        page.on("request", asked)
        page.goto(address)
        if ready:
            seen.says("Ready.")
        return seen

    yield open
    for context in contexts:
        context.close()
    assert [problem for seen in visits for problem in seen.problems] == []
    assert [url for seen in visits for url in seen.elsewhere] == []
