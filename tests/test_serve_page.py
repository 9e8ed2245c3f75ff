"""The page of `onebox serve` in a real browser: at desktop and phone size, by mouse, touch and keyboard; what it draws,
what it says of wrong files, and that names are never markup."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
import pytest

import onebox
from tests.browser import XSS, open_page, serious_findings
from tests.serving import TOKEN, picture
from tests.small_runs import TINY
from tests.web_process import Server, running

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


@pytest.fixture(scope="module")
def server(tiny_run: Path) -> Iterator[Server]:
    with running("serve", tiny_run) as server:
        yield server


def payload(name: str, content: bytes) -> dict[str, Any]:
    return {"name": name, "mimeType": "image/png", "buffer": content}


def choose(page: Page, *pictures: tuple[str, bytes]) -> None:
    page.set_input_files("#files", [payload(*one) for one in pictures])


def answered(page: Page) -> None:
    """The picture that is shown has its answer."""
    page.wait_for_function(
        "() => !document.querySelector('.answer.waiting') && document.getElementById('label').textContent"
    )


def send(page: Page, kind: str, name: str, content: bytes) -> None:
    """A file dropped on the page ("drop") or pasted into it ("paste")."""
    page.evaluate(
        """([kind, name, text]) => {
            const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
            const data = new DataTransfer();
            data.items.add(new File([bytes], name, { type: "image/png" }));
            const event = kind === "paste"
                ? new ClipboardEvent("paste", { clipboardData: data, bubbles: true })
                : new DragEvent(kind, { dataTransfer: data, bubbles: true, cancelable: true });
            document.body.dispatchEvent(event);
        }""",
        [kind, name, base64.b64encode(content).decode()],
    )


def orange(page: Page) -> list[float] | None:
    """Left, right and bottom of the frame on the canvas, as shares of its width; None where there is none. Looked for
    in its lowest line, for the tag at its top is of the same colour."""
    return page.evaluate(
        """() => {
            const canvas = document.getElementById("canvas");
            const { width, height } = canvas;
            const data = canvas.getContext("2d").getImageData(0, 0, width, height).data;
            const found = (x, y) => {
                const at = 4 * (y * width + x);
                return data[at] > 250 && Math.abs(data[at + 1] - 159) < 4 && Math.abs(data[at + 2] - 28) < 4;
            };
            for (let y = height - 1; y >= 0; y -= 1) {
                const line = [...Array(width).keys()].filter((x) => found(x, y));
                if (line.length > 4) return [line[0], line.at(-1), y].map((v) => v / width);
            }
            return null;
        }"""
    )


@pytest.mark.parametrize("phone", [False, True], ids=["desktop", "phone"])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_a_picture_gets_its_answer_drawn_and_nothing_is_seriously_wrong_for_anybody(
    chromium: Browser,
    server: Server,
    phone: bool,
    dark: bool,
) -> None:
    page = open_page(chromium, server.url, phone=phone, dark=dark)
    page.wait_for_selector("text=It knows: green, red")
    assert serious_findings(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    choose(page, ("robin.png", picture(0, (200, 160))), ("second.png", picture(1, (160, 200))))
    answered(page)
    assert page.inner_text("#file") == "robin.png"
    assert page.inner_text("#label") in {"red", "green"}
    assert page.locator("#bars li").count() == 2
    assert "robin.png" in (page.get_attribute("#canvas", "aria-label") or "")
    assert orange(page), "the box is drawn"
    assert serious_findings(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert page.complaints == []  # type: ignore[attr-defined]
    page.context.close()


def test_of_a_single_class_no_share_is_told(chromium: Browser, tiny_set: Path, tmp_path: Path) -> None:
    """It is always 1, and "100 % sure" beside a wrong box would read as if the box were meant."""
    data = onebox.load_dataset(tiny_set)
    reds = data.subset([i for i, one in enumerate(data) if one.label == "red"])
    run = onebox.train(replace(reds, class_names=("red",)), out=tmp_path / "run", **TINY | {"epochs": 1})
    report = (tmp_path / "run" / "report.html").read_text("utf-8")
    assert "IoU" in report
    assert "% sure" not in report
    answer = onebox.load(run.model).predict(data[0].path)[0]
    assert (answer.named, answer.caption) == ("red", "red")
    with running("serve", tmp_path / "run") as alone:
        page = open_page(chromium, alone.url)
        choose(page, ("a.png", picture()))
        answered(page)
        assert page.inner_text("#label") == "red"
        assert page.inner_text("#score") == ""  # that one of its objects is there at all is another question
        assert not page.is_visible("#bars")
        assert orange(page), "the box is drawn"
        assert page.complaints == []  # type: ignore[attr-defined]
        page.context.close()


def test_the_frame_stands_where_the_answer_says(chromium: Browser, server: Server) -> None:
    page = open_page(chromium, server.url)
    with page.expect_response("**/v1/predict*") as waiting:
        choose(page, ("a.png", picture(1, (240, 240))))
    answer = waiting.value.json()["predictions"][0]
    answered(page)
    left, _, right, bottom = (v / 240 for v in answer["box"])
    assert orange(page) == pytest.approx([left, right, bottom], abs=0.02)
    page.context.close()


def test_dropping_and_pasting(chromium: Browser, server: Server) -> None:
    page = open_page(chromium, server.url)
    send(page, "dragenter", "a.png", picture())
    assert page.is_visible("#over")
    send(page, "drop", "dropped.png", picture())
    answered(page)
    assert not page.is_visible("#over")
    assert page.inner_text("#file") == "dropped.png"
    send(page, "paste", "pasted.png", picture(1))
    page.wait_for_function("() => document.getElementById('file').textContent === 'pasted.png'")
    assert page.locator("#strip button").count() == 2
    page.context.close()


def test_by_keyboard_alone(chromium: Browser, server: Server) -> None:
    page = open_page(chromium, server.url)
    page.wait_for_selector("#known:not([hidden])")
    for _ in range(5):  # past the links to the first button
        page.keyboard.press("Tab")
        if page.evaluate("() => document.activeElement.matches('#empty [data-pick]')"):
            break
    assert page.evaluate("() => document.activeElement.matches('#empty [data-pick]')")
    with page.expect_file_chooser() as waiting:
        page.keyboard.press("Enter")
    waiting.value.set_files([payload(f"{i}.png", picture(i)) for i in range(3)])  # type: ignore[arg-type]
    answered(page)
    for key, name in (
        ("ArrowRight", "1.png"),
        ("ArrowRight", "2.png"),
        ("ArrowRight", "2.png"),
        ("ArrowLeft", "1.png"),
    ):
        page.keyboard.press(key)
        assert page.inner_text("#file") == name
    page.keyboard.press("Delete")
    assert (page.inner_text("#file"), page.locator("#strip button").count()) == ("2.png", 2)
    page.keyboard.press("Delete")
    page.keyboard.press("Delete")
    assert page.is_visible("#empty")
    assert page.complaints == []  # type: ignore[attr-defined]
    page.context.close()


def test_by_touch(chromium: Browser, server: Server) -> None:
    page = open_page(chromium, server.url, phone=True)
    with page.expect_file_chooser() as waiting:
        page.tap("#empty [data-pick]")
    waiting.value.set_files([payload(f"{i}.png", picture(i)) for i in range(2)])  # type: ignore[arg-type]
    answered(page)
    page.tap("#strip li:nth-child(2) button")
    assert page.inner_text("#file") == "1.png"
    page.tap("#remove")
    assert page.inner_text("#file") == "0.png"
    small = "[...document.querySelectorAll('button')].filter(b => b.offsetParent && b.offsetHeight < 35).length"
    assert page.evaluate(small) == 0, "every button is large enough for a finger"
    page.context.close()


def test_the_camera_is_answered_live_and_a_picture_can_be_kept(chromium: Browser, server: Server) -> None:
    page = open_page(chromium, server.url)
    page.click("#empty [data-film]")
    page.wait_for_function("() => document.getElementById('file').textContent === 'Camera'")
    answered(page)
    assert page.is_visible("#snap")
    assert not page.is_visible("#film")
    assert "1280 × 720 px" in page.inner_text("#facts") or "640 × 480 px" in page.inner_text("#facts")
    page.click("#stop")
    assert page.is_visible("#empty")
    page.click("#empty [data-film]")
    page.wait_for_selector("#snap")
    page.click("#snap")
    page.wait_for_function("() => document.getElementById('file').textContent === 'photo-1.jpg'")
    answered(page)
    assert page.is_visible("#film")
    assert page.complaints == []  # type: ignore[attr-defined]
    page.context.close()


def test_wrong_files_are_told_beside_the_picture_and_the_others_go_on(
    chromium: Browser,
    server: Server,
) -> None:
    page = open_page(chromium, server.url)
    choose(page, ("notes.png", b"no picture"), ("good.png", picture()), ("huge.png", b"x" * (33 << 20)))
    page.wait_for_function("() => document.getElementById('error').textContent")
    assert "not a picture" in page.inner_text("#error")
    assert page.inner_text("#label") == "No answer"
    page.keyboard.press("ArrowRight")
    answered(page)
    assert not page.is_visible("#error")
    page.keyboard.press("ArrowRight")
    page.wait_for_function("() => document.getElementById('error').textContent")
    assert "larger than the 32 MiB allowed" in page.inner_text("#error")
    page.context.close()


def test_a_file_that_the_browser_cannot_show_comes_drawn_by_the_server(
    chromium: Browser,
    server: Server,
) -> None:
    page = open_page(chromium, server.url)
    choose(page, ("scan.tif", picture(0, (120, 90), "TIFF")))
    answered(page)
    page.wait_for_function("() => !document.getElementById('canvas').hidden")
    assert page.inner_text("#facts").startswith("Picture\n120 × 90 px")
    page.context.close()


def test_names_that_are_markup_are_shown_as_text(
    chromium: Browser,
    tiny_run: Path,
    tmp_path: Path,
) -> None:
    model = onnx.load(tiny_run / "model.onnx")
    [entry] = [e for e in model.metadata_props if e.key == "onebox.manifest"]
    entry.value = json.dumps({**json.loads(entry.value), "class_names": list(XSS[:2])})
    onnx.save(model, tmp_path / "model.onnx")
    with running("serve", tmp_path / "model.onnx") as server:
        page = open_page(chromium, server.url)
        choose(page, *((name, picture(i)) for i, name in enumerate(XSS)))
        answered(page)
        for name in XSS:
            assert page.inner_text("#file") == " ".join(name.split())
            answered(page)
            assert page.inner_text("#label") in XSS[:2]
            page.keyboard.press("ArrowRight")
        # what the page shows of class names comes from answers: all thirty, in the places where they stand
        page.evaluate(
            """async (names) => {
                const { Panel } = await import("/static/panel.js");
                const probabilities = Object.fromEntries(names.map((name) => [name, 1 / names.length]));
                new Panel().show({ name: names[0], answer: { label: names[1], score: 1, probabilities,
                    box: [0, 0, 1, 1], image_size: [1, 1], class_set: names, presence: 1 } });
                document.getElementById("more").click();
            }""",
            list(XSS),
        )
        shown = page.locator("#bars .name").all_text_contents()
        assert sorted(shown) == sorted(XSS)
        page.wait_for_timeout(300)
        assert page.evaluate("window.hit") is None
        assert page.locator("main script, main iframe, main img, main object, main embed").count() == 0
        assert page.complaints == []  # type: ignore[attr-defined]
        page.context.close()


def test_a_server_with_a_token_asks_for_it_once(
    chromium: Browser,
    tiny_run: Path,
    tmp_path: Path,
) -> None:
    (tmp_path / "token").write_text(TOKEN)
    with running("serve", tiny_run, "--token-file", tmp_path / "token") as server:
        page = open_page(chromium, server.url)
        page.wait_for_selector("dialog[open]")
        assert serious_findings(page) == []
        page.fill("dialog input", "wrong")
        page.keyboard.press("Enter")
        page.wait_for_selector("text=That token is not the right one.")
        page.fill("dialog input", TOKEN)
        page.click("dialog .primary")
        page.wait_for_selector("text=It knows: green, red")
        choose(page, ("a.png", picture()))
        answered(page)
        page.goto(f"{server.url}api")
        page.wait_for_selector("details")
        assert page.locator("dialog[open]").count() == 0
        page.context.close()


def test_the_page_of_the_api_shows_every_address(chromium: Browser, server: Server) -> None:
    page = open_page(chromium, f"{server.url}api", phone=True)
    page.wait_for_selector("details")
    assert page.locator("details").count() == 11
    assert page.is_visible("text=coverage")
    assert serious_findings(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert page.complaints == []  # type: ignore[attr-defined]
    page.context.close()
