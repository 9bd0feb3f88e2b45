"""Draw the pictures of docs/page.md: the page of ``mycelia serve`` over a memory of drawn scenes.

    python docs/make_page.py          (needs the extras serve and dev, and /usr/bin/chromium; offline weights)

The scenes are those of docs/make_picture.py; the memory is built, served and photographed for real.
"""

from __future__ import annotations

import io
import json
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import uvicorn
from make_picture import CLASSES, MEMORY, QUERY, draw_scene
from PIL import Image
from playwright.sync_api import Page, expect, sync_playwright

from indexer.bank.build import build_index
from indexer.datasets import load_dataset
from indexer.recipe import load_recipe
from segmentation.segmenter import Segmenter
from segmentation.service.app import create_app

OUT = Path(__file__).parent
DESKTOP, PHONE = {"width": 1120, "height": 700}, {"width": 390, "height": 780}
#: Drawn photos of the memory: other light, other cars, the query's street without any.
SCENES = (
    MEMORY,
    replace(MEMORY, seed=5, light=0.9, cars=((0.6, 0.83, 0.25, (60, 120, 60)),)),
    replace(QUERY, seed=7, light=1.05, cars=()),
)


def build(folder: Path) -> Path:
    """An index of the drawn scenes, below a folder."""
    for name in ("images", "masks"):
        (folder / "data" / name).mkdir(parents=True)
    for number, scene in enumerate(SCENES):
        for name, array in zip(("images", "masks"), draw_scene(scene), strict=True):
            Image.fromarray(array).save(folder / "data" / name / f"street-{number}.png")
    classes = [{"id": id, "name": name, "color": color} for id, (name, color) in enumerate(CLASSES)]
    (folder / "data" / "classes.json").write_text(json.dumps({"classes": classes}))
    recipe = load_recipe("offline.yaml", ["index.engine=exact", "bank.max_patches=null"])
    build_index(load_dataset(folder / "data"), folder / "streets.index", recipe=recipe)
    return folder / "streets.index"


@contextmanager
def serve(index: Path) -> Iterator[str]:
    """The address of a service over an index."""
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        port = place.getsockname()[1]
    app = create_app(lambda: Segmenter.open(index), index)
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="error", ws="none"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started and thread.is_alive():
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


def open_photo(page: Page, address: str, photo: Path) -> None:
    """The page with a photo and its mask."""
    page.goto(address)
    expect(page.locator("#status")).to_have_text("Ready.")
    page.set_input_files("#photo-input", str(photo))
    expect(page.locator("#status")).to_contain_text("segmented in", timeout=60_000)


def click(page: Page, row: float, col: float) -> None:
    """Click a place of the photo, in shares of its height and width."""
    page.locator("#stage").scroll_into_view_if_needed()
    box = page.locator("#stage").bounding_box()
    assert box is not None
    wide = min(box["width"], box["height"] * 476 / 364)
    x = box["x"] + (box["width"] - wide) / 2 + col * wide
    page.mouse.click(x, box["y"] + box["height"] / 2 + (row - 0.5) * wide * 364 / 476)


def save(page: Page, name: str) -> None:
    """What is seen now, in few bytes."""
    page.wait_for_timeout(2500)  # pictures come, flashes go
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    picture.quantize(80, kmeans=1, dither=Image.Dither.NONE).save(OUT / name, optimize=True)


def photograph(browser: Any, address: str, photo: Path) -> None:
    """All pictures."""
    page = browser.new_page(viewport=DESKTOP, color_scheme="light")
    open_photo(page, address, photo)
    click(page, 0.69, 0.36)
    expect(page.locator("#why .vote").first).to_be_visible()
    page.locator("#why").scroll_into_view_if_needed()
    save(page, "page.png")
    page.get_by_role("button", name="Memory", exact=True).click()
    expect(page.locator("#suspicious-count")).not_to_be_empty()
    save(page, "page-memory.png")
    page.close()
    page = browser.new_page(viewport=PHONE, color_scheme="dark")
    open_photo(page, address, photo)
    page.get_by_label("Class", exact=True).first.select_option(label="New class …")
    page.get_by_label("Name of the new class").fill("roof")
    page.get_by_role("button", name="Grow").click()
    for row, col in ((0.11, 0.73), (0.16, 0.72), (0.2, 0.78), (0.17, 0.84)):
        click(page, row, col)
    page.locator("#teach").scroll_into_view_if_needed()
    save(page, "page-teach.png")
    page.close()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        index = build(Path(scratch))
        photo = Path(scratch) / "street.png"
        Image.fromarray(draw_scene(QUERY)[0]).save(photo)
        with serve(index) as address, sync_playwright() as started:
            arguments = ["--headless=new", "--no-sandbox", "--disable-gpu"]
            browser = started.chromium.launch(executable_path="/usr/bin/chromium", args=arguments)
            photograph(browser, address, photo)
            browser.close()
    print(*(OUT / name for name in ("page.png", "page-memory.png", "page-teach.png")))
