"""The page in a real browser, over a real service with a tiny index."""

from __future__ import annotations

import hashlib
import io
import re
import urllib.request
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from segmentation.service.security import Keys
from tests.segmentation.service.conftest import encoded
from tests.segmentation.service.page.conftest import DESKTOP, PHONE, Visit, playwright, running, scene, truth

expect = playwright.expect
Visits = Callable[..., Visit]
RED = (96, 216)
"""(row, col) in the square that the memory knows nothing like."""


def paint(seen: Visit, name: str) -> None:
    """Grow over the red square, as a class that is new."""
    page = seen.page
    page.get_by_label("Class", exact=True).first.select_option(label="New class …")
    page.get_by_label("Name of the new class").fill(name)
    page.get_by_role("button", name="Grow").click()
    seen.click(*RED)
    expect(page.locator("#painted")).to_have_text("7,680 pixels painted")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_a_class_is_taught_and_undone(address: str, visit: Visits, viewport: Any, scheme: str) -> None:
    seen = visit(address, viewport=viewport, color_scheme=scheme)
    page = seen.page
    seen.open("scene.png", encoded(scene()))
    assert (seen.class_at(20, 30), seen.class_at(20, 250)) == ("dark", "bright")
    before = seen.class_at(*RED)
    assert before in ("dark", "bright")

    seen.click(*RED)
    votes = page.locator("#why .vote")
    expect(votes.first).to_contain_text("weight")
    assert 1 <= votes.count() <= 6
    expect(votes.first.locator(".frame")).to_be_visible()

    paint(seen, "rust")
    page.get_by_role("button", name="Teach", exact=True).click()
    seen.says(re.compile(r"^\+\d+ patch(es)?, [\d.]+ % changed, \d+ ms$"))
    assert seen.class_at(*RED) == "rust"
    assert seen.class_at(20, 30) == "dark"
    expect(page.locator("#legend-rows")).to_contain_text("rust")
    expect(page.locator("#facts")).to_contain_text("4 images, 3 classes")

    page.get_by_role("button", name="Undo teaching").click()
    seen.says(re.compile(r"^−\d+ patch(es)?, [\d.]+ % changed, \d+ ms$"))
    assert seen.class_at(*RED) == before
    expect(page.locator("#facts")).to_contain_text("3 images")


def test_every_format_is_downloaded(address: str, visit: Visits) -> None:
    seen = visit(address)
    seen.open("scene.png", encoded(scene()))
    names = seen.page.locator("#format option").all_inner_texts()
    assert {"png", "coco-rle", "labelme"} <= set(names)
    for name in names:
        seen.page.get_by_label("Format of the mask").select_option(name)
        seen.page.wait_for_timeout(150)  # Chromium drops what a page downloads beyond ten in a second
        with seen.page.expect_download() as waiting:
            seen.page.get_by_role("button", name="Download", exact=True).click()
        assert Path(waiting.value.path()).stat().st_size > 0
        assert waiting.value.suggested_filename.startswith("scene"), name


def test_an_image_is_removed_from_the_memory(address: str, visit: Visits) -> None:
    page = visit(address).page
    page.get_by_role("button", name="Memory", exact=True).click()
    expect(page.locator("#memory-images > li")).to_have_count(3)
    expect(page.locator("#memory-images img[src]").first).to_be_visible()
    expect(page.get_by_role("img", name=re.compile("Map of .* patches: "))).to_be_visible()
    expect(page.locator("#suspicious-count")).not_to_be_empty()
    page.get_by_role("button", name="Remove photo1").click()
    page.get_by_role("button", name="Keep").click()
    expect(page.locator("#memory-images > li")).to_have_count(3)
    page.get_by_role("button", name="Remove photo1").click()
    page.locator("#confirm-yes").click()
    expect(page.locator("#memory-images > li")).to_have_count(2)
    expect(page.locator("#status")).to_contain_text("Removed photo1")


def test_a_vote_leads_to_the_whole_image(address: str, visit: Visits) -> None:
    seen = visit(address)
    seen.open("scene.png", encoded(scene()))
    seen.click(20, 30)
    seen.page.locator("#why .vote").first.click()
    dialog = seen.page.get_by_role("dialog")
    expect(dialog).to_contain_text("of the memory, of the build")
    expect(dialog.locator(".frame")).to_be_visible()
    seen.page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()


def served_iou(address: str) -> float:
    """The mean IoU of the scene, in per cent, counted here from the PNG that the service answers."""
    asked = urllib.request.Request(
        f"{address}/v1/segment?format=png", encoded(scene()), {"Content-Type": "image/png"}
    )
    with urllib.request.urlopen(asked) as answer:
        found = np.asarray(Image.open(io.BytesIO(answer.read())))
    drawn = truth()
    ious = [((found == id) & (drawn == id)).sum() / ((found == id) | (drawn == id)).sum() for id in (0, 1)]
    return 100 * float(np.mean(ious))


def test_a_mask_is_compared(address: str, visit: Visits) -> None:
    seen = visit(address)
    seen.open("scene.png", encoded(scene()))
    seen.drop(("scene_mask.png", encoded(truth())))
    expect(seen.page.get_by_role("img", name="The photo with the mask that was drawn")).to_be_visible()
    said = seen.page.locator("#mean-iou")
    expect(said).to_have_text(re.compile(r"Mean IoU [\d.]+ % over 2 classes"))
    assert float(re.findall(r"[\d.]+", said.inner_text())[0]) == pytest.approx(served_iou(address), abs=0.06)
    seen.drop(("scene_mask.png", encoded(truth((10, 12)))))
    seen.says("they do not belong together")


def test_a_folder_is_opened(address: str, visit: Visits, tmp_path: Path) -> None:
    folder = tmp_path / "survey"
    folder.mkdir()
    for number in range(2):
        (folder / f"plot{number}.png").write_bytes(encoded(scene((96 + number, 140))))
    (folder / "plot1_mask.png").write_bytes(encoded(truth((97, 140))))
    (folder / "notes.txt").write_text("no photo")
    page = visit(address).page
    page.set_input_files("#folder-input", str(folder))
    strip = page.locator("#strip li")
    expect(strip).to_have_count(2)
    expect(page.locator("#strip li.done")).to_have_count(2, timeout=30_000)
    page.get_by_title("plot1.png").click()
    expect(page.locator("#mean-iou")).to_contain_text("Mean IoU", timeout=10_000)
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Download all").click()
    with zipfile.ZipFile(waiting.value.path()) as masks:
        assert {"plot0.png", "plot1.png"} <= {Path(name).name for name in masks.namelist()}
    page.get_by_role("button", name="Close plot1.png").click()
    expect(strip).to_have_count(1)


def test_nothing_painted_is_lost(address: str, visit: Visits) -> None:
    seen = visit(address, allowed="503")
    refusal = {"error": {"code": "index", "message": "the index cannot be written now"}}
    seen.page.route("**/v1/teach", lambda route: route.fulfill(status=503, json=refusal))
    seen.open("scene.png", encoded(scene()))
    paint(seen, "rust")
    seen.page.get_by_role("button", name="Teach", exact=True).click()
    seen.says("the index cannot be written now")
    expect(seen.page.locator("#painted")).to_have_text("7,680 pixels painted")
    seen.page.reload()
    seen.says("Ready.")
    seen.open("scene.png", encoded(scene()))
    seen.says("What you had painted on it is back.")
    expect(seen.page.locator("#painted")).to_have_text("7,680 pixels painted")
    seen.page.unroute("**/v1/teach")
    seen.page.get_by_role("button", name="Teach", exact=True).click()
    seen.says("% changed")
    assert seen.class_at(*RED) == "rust"


def test_keys_alone_do_it(address: str, visit: Visits) -> None:
    seen = visit(address)
    page = seen.page
    seen.open("scene.png", encoded(scene()))
    page.locator("#stage").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    expect(page.locator("#why .vote").first).to_be_visible()
    page.keyboard.press("2")
    expect(page.get_by_role("button", name="Brush")).to_have_attribute("aria-pressed", "true")
    size = page.locator("#brush-size").input_value()
    page.keyboard.press("]")
    assert int(page.locator("#brush-size").input_value()) > int(size)
    page.keyboard.press("Enter")
    expect(page.locator("#painted")).to_contain_text("pixels painted")
    page.keyboard.press("Control+z")
    expect(page.locator("#painted")).to_have_text("Nothing is painted yet.")
    scale = page.locator(".sheet").first.get_attribute("style")
    page.keyboard.press("+")
    assert page.locator(".sheet").first.get_attribute("style") != scale
    page.keyboard.press("0")
    assert page.locator(".sheet").first.get_attribute("style") == scale
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("Keys")
    page.get_by_label("Keys of one letter").uncheck()
    page.keyboard.press("Escape")
    brush = page.get_by_role("button", name="Brush")
    page.locator("#zoom-fit").focus()
    page.keyboard.press("e")
    expect(brush).to_have_attribute("aria-pressed", "true")
    page.locator("#stage").focus()
    page.keyboard.press("e")
    expect(brush).to_have_attribute("aria-pressed", "false")


def test_brush_and_eraser(address: str, visit: Visits) -> None:
    seen = visit(address)
    page = seen.page
    seen.open("scene.png", encoded(scene()))
    page.locator("#class-0").click()
    page.mouse.move(*seen.at(40, 40))
    page.mouse.down()
    page.mouse.move(*seen.at(40, 100), steps=4)
    page.mouse.up()
    painted = page.locator("#painted")
    expect(painted).to_contain_text("pixels painted")
    count = int(re.sub(r"\D", "", painted.inner_text()))
    # a line of 60 pixels, 24 wide, with round ends
    assert count == pytest.approx(60 * 24 + np.pi * 12**2, rel=0.1)
    page.keyboard.press("e")
    seen.click(40, 40)
    expect(painted).not_to_have_text(re.compile(f"{count:,} "))
    page.get_by_role("button", name="Clear").click()
    expect(painted).to_have_text("Nothing is painted yet.")


def test_hiding_and_blanks(address: str, visit: Visits) -> None:
    seen = visit(address)
    seen.open("scene.png", encoded(scene()))
    stage = seen.page.locator("#stage")
    full = stage.screenshot()
    seen.page.get_by_label("Show dark").uncheck()
    hidden = stage.screenshot()
    assert full != hidden
    seen.page.get_by_role("button", name="Show all").click()
    seen.page.get_by_label("Colours", exact=True).select_option("safe")
    assert stage.screenshot() not in (full, hidden)
    seen.page.get_by_label(re.compile("Leave blank")).fill("100")
    expect(seen.page.locator("#blank-share")).to_contain_text("Left blank:")


def test_the_service_wants_a_key(index: Path, visit: Visits) -> None:
    digest = hashlib.sha256(b"mushroom").hexdigest()
    with running(index, Keys({digest: "write"})) as address:
        seen = visit(address, ready=False, allowed="401")
        page = seen.page
        page.get_by_label("Key", exact=True).fill("toadstool")
        page.get_by_role("button", name="Use it").click()
        expect(page.locator("#key-text")).to_contain_text("does not know this key")
        page.get_by_label("Key", exact=True).fill("mushroom")
        page.get_by_role("button", name="Use it").click()
        seen.says("Ready.")
        seen.open("scene.png", encoded(scene()))
        seen.click(20, 30)
        expect(page.locator("#why img[src^='blob:']").first).to_be_visible()


def test_busy_gone_and_read_only(index: Path, visit: Visits) -> None:
    with running(index, read_only=True) as address:
        seen = visit(address, allowed="429|ERR_")
        expect(seen.page.get_by_role("button", name="Brush")).to_be_hidden()
        answers = iter([429])

        def busy(route: Any) -> None:
            status = next(answers, 200)
            if status == 200:
                route.continue_()
            else:
                route.fulfill(
                    status=status, headers={"Retry-After": "1"}, json={"error": {"message": "busy"}}
                )

        seen.page.route("**/v1/segment", busy)
        seen.drop(("scene.png", encoded(scene())))
        seen.says("The service is busy. The page asks again in 1 second.")
        seen.says("scene.png: segmented in")
        expect(seen.page.locator("#read-only")).to_be_visible()
        seen.page.unroute("**/v1/segment")
        seen.page.route("**/v1/explain", lambda route: route.abort())
        seen.click(20, 30)
        seen.says("The service does not answer.")


def test_graphics_card_and_processor_draw_the_same(
    address: str, visit: Visits, chromium: Any, no_graphics: Any
) -> None:
    pictures = []
    for browser, kind in ((chromium, "webgl2"), (no_graphics, "2d")):
        seen = visit(address, browser=browser)
        seen.open("scene.png", encoded(scene()))
        stage = seen.page.locator("#stage")
        if stage.get_attribute("data-layer") != kind:
            pytest.skip("this browser has no WebGL 2, not even by software")
        seen.page.get_by_label("Colours", exact=True).select_option("patterns")
        seen.page.get_by_label(re.compile("Leave blank")).fill("80")
        paint(seen, "rust")
        seen.page.mouse.move(0, 0)
        pictures.append(np.asarray(Image.open(io.BytesIO(stage.screenshot())).convert("RGB")).astype(int))
    apart = np.abs(pictures[0] - pictures[1]).max(axis=2) > 4
    # where a pixel of the screen lies on the edge of two of the photo, they may choose either
    assert apart.mean() < 0.002
