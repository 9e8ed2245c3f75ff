"""The labelling page in a real browser: by mouse, by touch and by keyboard alone, at desktop and phone size; what it
says is what is in the file; names that are markup are text; axe has nothing serious to say."""

from __future__ import annotations

import json
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.browser import XSS, open_page, serious_findings
from tests.small_sets import jpeg, picture, varied_table
from tests.web_process import Server, running

READY = "() => !document.getElementById('take').disabled"
PHOTO = """() => {
  const photo = document.getElementById('photo'), place = photo.getBoundingClientRect();
  return [place.left, place.top, place.width / photo.offsetWidth];
}"""


def rows(folder: Path) -> dict[str, dict[str, Any]]:
    """The label file by picture, the header under ""."""
    lines = (folder / "labels.jsonl").read_text("utf-8").splitlines()
    return {row.get("picture", ""): row for row in map(json.loads, lines)}


def some_pictures(folder: Path, count: int = 5, size: tuple[int, int] = (300, 200)) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        Image.new("RGB", size, (40 * i, 90, 150)).save(folder / f"{i}.png")
    return folder


@contextmanager
def at(browser: Any, folder: Path, *words: Any, **options: Any) -> Generator[tuple[Any, Server], None, None]:
    """The page of `onebox label FOLDER WORDS...`; it has nothing to complain of at the end."""
    with running("label", folder, *words) as server:
        page = open_page(browser, server.url, **options)
        yield page, server
        assert page.complaints == []
        page.context.close()


def drag(page: Any, box: tuple[float, float, float, float]) -> None:
    """The mouse along a box given in pixels of the picture."""
    page.wait_for_function(READY)
    left, top, scale = page.evaluate(PHOTO)
    x0, y0, x1, y1 = (v * scale for v in box)
    page.mouse.move(left + x0, top + y0)
    page.mouse.down()
    page.mouse.move(left + (x0 + x1) / 2, top + y1)
    page.mouse.move(left + x1, top + y1)
    page.mouse.up()


def saved(page: Any) -> None:
    page.wait_for_function("() => document.getElementById('saved').textContent === 'Saved'")


def near(box: list[float], expected: tuple[float, ...]) -> bool:
    return all(abs(a - b) <= 1 for a, b in zip(box, expected, strict=True))


def test_one_drag_and_one_key_by_mouse(chromium: Any, tmp_path: Path) -> None:
    folder = some_pictures(tmp_path / "set")
    with at(chromium, folder, "--classes", "cat,dog,cow") as (page, _):
        first = page.text_content("#name")
        drag(page, (30, 20, 130, 120))
        assert page.text_content("#mark") == "not saved yet"
        page.keyboard.press("2")
        page.wait_for_function("name => document.getElementById('name').textContent !== name", arg=first)
        second = page.text_content("#name")
        page.keyboard.press("c")  # cat and cow: that letter means neither
        page.keyboard.press("1")  # the class first, then the box
        drag(page, (250, 150, 100, 50))
        page.wait_for_function("name => document.getElementById('name').textContent !== name", arg=second)
        third = page.text_content("#name")
        page.wait_for_function(READY)
        page.keyboard.press("0")
        saved(page)
        found = rows(folder)
        assert found[first]["label"] == "dog"
        assert near(found[first]["box"], (30, 20, 130, 120))
        assert found[second]["label"] == "cat"
        assert near(found[second]["box"], (100, 50, 250, 150))
        assert found[third]["label"] is None
        assert page.text_content("#count") == "3 of 5"
        # undo three times, redo once
        for _ in range(3):
            page.keyboard.press("Control+z")
            page.wait_for_timeout(150)
        saved(page)
        assert set(rows(folder)) == {""}
        page.keyboard.press("Control+Shift+Z")
        page.wait_for_timeout(150)
        saved(page)
        assert set(rows(folder)) == {"", first}
        # a handle moves one edge, and the label is saved by itself
        page.wait_for_function(READY)
        handle = page.locator('.box [data-part="e"]').bounding_box()
        left, top, scale = page.evaluate(PHOTO)
        page.mouse.move(handle["x"] + handle["width"] / 2, handle["y"] + handle["height"] / 2)
        page.mouse.down()
        page.mouse.move(left + 200 * scale, top + 10 * scale, steps=3)
        page.mouse.up()
        page.wait_for_timeout(600)
        saved(page)
        assert near(rows(folder)[first]["box"], (30, 20, 200, 120))
        # zoomed and panned, a drag still means the same pixels
        page.mouse.move(left + 60 * scale, top + 60 * scale)
        page.mouse.wheel(0, -300)
        page.keyboard.down(" ")
        page.mouse.down()
        page.mouse.move(left + 90 * scale, top + 80 * scale)
        page.mouse.up()
        page.keyboard.up(" ")
        assert page.evaluate(PHOTO)[2] > scale * 1.2
        drag(page, (45, 45, 75, 70))
        page.wait_for_timeout(600)
        saved(page)
        assert near(rows(folder)[first]["box"], (45, 45, 75, 70))


def test_by_keyboard_alone(chromium: Any, tmp_path: Path) -> None:
    folder = some_pictures(tmp_path / "set", 3)
    with at(chromium, folder) as (page, _):
        page.wait_for_function(READY)
        name = page.text_content("#name")
        page.keyboard.press("Enter")  # a box in the middle
        page.keyboard.press("/")
        page.keyboard.type("sea lion")
        page.keyboard.press("Enter")
        page.wait_for_function("name => document.getElementById('name').textContent !== name", arg=name)
        saved(page)
        assert rows(folder)[""]["classes"] == ["sea lion"]
        assert near(rows(folder)[name]["box"], (75, 50, 225, 150))
        page.wait_for_function(READY)
        page.keyboard.press("ArrowLeft")
        page.wait_for_function("name => document.getElementById('name').textContent === name", arg=name)
        page.wait_for_function(READY)
        for key, times in (("Shift+ArrowRight", 5), ("Alt+ArrowDown", 7), ("Control+ArrowLeft", 3)):
            for _ in range(times):
                page.keyboard.press(key)
        page.wait_for_timeout(600)
        saved(page)
        assert near(rows(folder)[name]["box"], (77, 50, 230, 157))
        page.keyboard.press("Delete")
        page.wait_for_timeout(200)
        saved(page)
        assert name not in rows(folder)
        page.keyboard.press("?")
        assert page.is_visible("#help")
        page.keyboard.press("Escape")
        assert not page.is_visible("#help")
        # every control can be reached by Tab
        reached = set()
        for _ in range(60):
            page.keyboard.press("Tab")
            reached.add(page.evaluate("() => document.activeElement.id || document.activeElement.className"))
        assert {"stage", "take", "none", "clear", "new-name", "sort", "add-files", "open-help"} <= reached


def test_a_page_without_the_right_token_says_what_to_open(chromium: Any, tmp_path: Path) -> None:
    folder = some_pictures(tmp_path / "set", 2)
    token = tmp_path / "token"
    token.write_text("a-token-of-some-length")
    with running("label", folder, "--token-file", token) as server:
        page = chromium.new_page()
        page.goto(f"{server.url}#wrong")
        page.wait_for_selector("#notice:not([hidden])")
        said = page.text_content("#notice")
        assert "The token is missing or wrong" in said
        assert f"{server.url}#TOKEN" in said
        page.goto(f"{server.url}#a-token-of-some-length")  # the same page to a browser: only what is behind # differs
        page.wait_for_function("() => document.getElementById('count').textContent.includes('of 2')")
        assert page.is_hidden("#notice")
        assert "token" not in page.url
        page.close()


def test_by_touch_on_a_phone(chromium: Any, tmp_path: Path) -> None:
    folder = some_pictures(tmp_path / "set", 3)
    with at(chromium, folder, "--classes", "cat,dog", phone=True) as (page, _):
        page.wait_for_function(READY)
        name = page.text_content("#name")
        left, top, scale = page.evaluate(PHOTO)
        touch = page.context.new_cdp_session(page)
        page.evaluate(
            "() => { window.ours = []; addEventListener('touchstart', (e) => window.ours.push(e.defaultPrevented)); }"
        )
        points = [(40, 30), (120, 90), (200, 140)]
        for kind, point in zip(("touchStart", "touchMove", "touchMove"), points, strict=True):
            where = [{"x": left + point[0] * scale, "y": top + point[1] * scale}]
            touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": where})
        touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        assert page.evaluate(PHOTO) == [left, top, scale]  # nothing has moved under the finger
        page.locator(".class", has_text="dog").tap()
        page.wait_for_function("name => document.getElementById('name').textContent !== name", arg=name)
        # the stroke was the page's alone: else Chromium can take it for a fling and swallow the tap that follows
        assert page.evaluate("() => window.ours") == [True, False]
        saved(page)
        assert near(rows(folder)[name]["box"], (40, 30, 200, 140))
        # two fingers zoom and draw nothing
        page.wait_for_function(READY)
        pinch = [(140, 90, 160, 110), (80, 40, 220, 160)]
        for kind, (x0, y0, x1, y1) in zip(("touchStart", "touchMove"), pinch, strict=True):
            where = [
                {"x": left + x * scale, "y": top + y * scale, "id": i} for i, (x, y) in enumerate(((x0, y0), (x1, y1)))
            ]
            touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": where})
        touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        assert page.evaluate(PHOTO)[2] > scale * 2
        assert page.locator("#box").is_hidden()
        small = page.evaluate(
            "() => [...document.querySelectorAll('button')]"
            ".filter((b) => b.offsetParent && b.offsetHeight < 30).map((b) => b.id)"
        )
        assert small == []
        assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")


def test_a_stale_tab_is_asked_which_label_counts(chromium: Any, tmp_path: Path) -> None:
    folder = some_pictures(tmp_path / "set", 2)
    with at(chromium, folder, "--classes", "cat,dog") as (page, server):
        other = open_page(chromium, server.url)
        for tab in (page, other):
            tab.route("**/api/progress*", lambda route: route.abort())  # neither hears of the other in time
            tab.wait_for_function(READY)
        name = page.text_content("#name")
        assert other.text_content("#name") == name
        drag(page, (10, 10, 60, 60))
        page.keyboard.press("1")
        saved(page)
        drag(other, (90, 90, 160, 160))
        other.keyboard.press("2")
        other.wait_for_selector("#conflict[open]")
        assert other.text_content("#conflict-text") == f'{name} is now "cat"; here it was to be "dog".'
        assert rows(folder)[name]["label"] == "cat"
        other.click("#use-mine")
        saved(other)
        assert rows(folder)[name]["label"] == "dog"
        page.complaints.clear()  # the requests cut off above
        other.context.close()


def test_pictures_dropped_in_and_from_the_camera(chromium: Any, tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    with at(chromium, folder, "--classes", "cat") as (page, _):
        page.wait_for_selector("#empty:not([hidden])")
        assert "no pictures yet" in page.text_content("#empty")
        page.set_input_files("#files", [{"name": "../one.jpg", "mimeType": "image/jpeg", "buffer": jpeg(80, 60)}])
        page.wait_for_function(READY)
        assert (folder / "one.jpg").is_file()
        page.click("#open-camera")
        page.wait_for_function("() => document.getElementById('video').videoWidth > 0")
        page.click("#shoot")
        page.wait_for_function(
            "() => document.getElementById('camera-text').textContent.startsWith('Saved as camera-')"
        )
        page.click("#close-camera")
        assert len(list(folder.glob("camera-*.jpg"))) == 1
        drag(page, (5, 5, 50, 50))
        page.keyboard.press("Enter")
        saved(page)
        assert rows(folder)["one.jpg"]["label"] == "cat"


def test_a_server_that_went_away_and_came_back(chromium: Any, tmp_path: Path) -> None:
    folder = some_pictures(tmp_path / "set", 2)
    with running("label", folder, "--classes", "cat") as server:
        page = open_page(chromium, server.url)
        drag(page, (10, 10, 60, 60))
        server.process.kill()
        server.process.wait()
        page.keyboard.press("1")
        page.wait_for_selector("#notice.lost")
        assert "Not saved yet" in page.text_content("#notice")
        page.context.close()
    assert not (folder / "labels.jsonl").exists()


def test_names_that_are_markup_are_text(chromium: Any, tmp_path: Path) -> None:
    folder = tmp_path / "set"
    for i, payload in enumerate(XSS):
        picture(folder / f"{i:02} {payload.replace('/', '%')[:180]}.jpg")
    with at(chromium, folder) as (page, server):
        page.wait_for_function(READY)
        for payload in XSS:
            page.fill("#new-name", payload[:100])
            page.press("#new-name", "Enter")
            page.wait_for_function("() => document.getElementById('new-name').value === ''")
        names = page.locator(".class .text").all_text_contents()
        assert names[0] == XSS[0]
        assert len(names) == len({payload[:100] for payload in XSS})
        drag(page, (10, 10, 60, 60))
        page.keyboard.press("1")
        for _ in range(len(XSS)):
            page.keyboard.press("ArrowRight")
        page.wait_for_timeout(300)
        assert page.evaluate("() => window.hit") is None
        assert server.process.poll() is None


@pytest.mark.parametrize(("phone", "dark"), [(False, False), (True, False), (False, True), (True, True)])
def test_axe_finds_nothing_serious(chromium: Any, tmp_path: Path, phone: bool, dark: bool) -> None:
    folder = tmp_path / "set"
    varied_table(folder, ["a.jpg,cat,10,10,60,60", "b.jpg,dog,10,10,60,60", "c.jpg,cat,1,1,900,900"])
    (folder / "d.jpg").write_bytes(jpeg()[:100])
    with at(chromium, folder, phone=phone, dark=dark) as (page, _):
        page.wait_for_function("() => document.getElementById('count').textContent === '2 of 4'")
        assert serious_findings(page) == []
        page.locator(".thumb", has_text="cat").first.click()
        drag(page, (10, 10, 60, 60))
        page.evaluate("document.body.classList.add('side-open')")
        assert serious_findings(page) == []
        page.evaluate("document.getElementById('help').showModal()")
        assert serious_findings(page) == []
        page.complaints.clear()  # the broken picture's thumbnail


def test_ten_thousand_pictures_are_seen_at_once(chromium: Any, tmp_path: Path) -> None:
    content = jpeg()
    (tmp_path / "set").mkdir()
    for i in range(10_000):
        (tmp_path / "set" / f"{i:05}.jpg").write_bytes(content)
    with at(chromium, tmp_path / "set", "--classes", "cat") as (page, _):
        page.wait_for_function(READY)
        assert page.text_content("#count") == "0 of 10000"
        assert page.locator(".thumb").count() < 40
        page.evaluate("document.getElementById('strip').scrollLeft = 500000")
        page.wait_for_timeout(300)
        assert 0 < page.locator(".thumb").count() < 40
        asked = page.evaluate(
            "() => performance.getEntriesByType('resource').filter((r) => r.name.includes('/thumb/')).length"
        )
        assert asked < 120
