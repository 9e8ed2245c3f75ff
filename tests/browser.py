"""A real browser for the pages: the system's Chromium, driven by Playwright. Where it is absent the tests that need it
skip and say so, unless ONEBOX_REQUIRE_BROWSER=1 (as in CI): a failure there. Also what every page is held to: no
complaints in the console, nothing fetched from elsewhere, axe's findings, and names that try to be markup."""

from __future__ import annotations

import os
import shutil
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

DESKTOP = {"width": 1280, "height": 860}
PHONE = {"width": 390, "height": 780}

#: Names that are markup, script or worse where a page does not treat them as text.
XSS = (
    "<script>window.hit=1</script>",
    "<img src=x onerror=window.hit=1>",
    "<svg onload=window.hit=1>",
    '"><script>window.hit=1</script>',
    "'><img src=x onerror=window.hit=1>",
    "</title><script>window.hit=1</script>",
    "</script><script>window.hit=1</script>",
    "</textarea><svg/onload=window.hit=1>",
    "</style><script>window.hit=1</script>",
    "javascript:window.hit=1",
    "<a href=javascript:window.hit=1>click</a>",
    "<iframe srcdoc='<script>parent.hit=1</script>'></iframe>",
    "<body onload=window.hit=1>",
    "<details open ontoggle=window.hit=1>",
    "<input autofocus onfocus=window.hit=1>",
    "<video><source onerror=window.hit=1></video>",
    "<math><mtext><img src=x onerror=window.hit=1></mtext></math>",
    "<object data=javascript:window.hit=1>",
    "<embed src=javascript:window.hit=1>",
    "<link rel=stylesheet href=//example.org/x.css>",
    "<style>*{display:none}</style>",
    "<base href=//example.org/>",
    "<form action=javascript:window.hit=1><button autofocus>go</button></form>",
    "&lt;script&gt;window.hit=1&lt;/script&gt;",
    "{{constructor.constructor('window.hit=1')()}}",
    "${window.hit=1}",
    "`;window.hit=1;`",
    "';window.hit=1;//",
    '<!--<img src="--><img src=x onerror=window.hit=1//">',
    "\u202e<img src=x onerror=window.hit=1>\u2066",
)


def _absent(reason: str) -> None:
    if os.environ.get("ONEBOX_REQUIRE_BROWSER") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def chromium() -> Generator[Browser, None, None]:
    """One browser for all tests; every page of `open_page` has a context of its own."""
    program = os.environ.get("ONEBOX_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        _absent("no chromium here (on Debian: apt-get install chromium)")
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError:
        _absent("playwright is not installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program,
            # a camera that films a test picture, and no question about it
            args=["--no-sandbox", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"],
        )
        yield browser
        browser.close()


def open_page(browser: Browser, url: str, *, phone: bool = False, dark: bool = False, **options: Any) -> Page:
    """A new page at `url`. `page.complaints` collects what the console says of errors and refused sources, and every
    request that leaves this machine."""
    context = browser.new_context(
        viewport=PHONE if phone else DESKTOP,  # type: ignore[arg-type]
        has_touch=phone,
        is_mobile=phone,
        color_scheme="dark" if dark else "light",
        reduced_motion="reduce",
        **options,
    )
    context.set_default_timeout(20_000)
    page = context.new_page()
    complaints: list[str] = []
    page.complaints = complaints  # type: ignore[attr-defined]
    page.on("pageerror", lambda error: complaints.append(f"page error: {error}"))
    page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
    page.on("request", lambda request: _watch(request.url, complaints))
    # asked for from the start: asked for just before the key, it can come after it, and the browser then shows its own
    page.on("filechooser", lambda chooser: None)
    page.goto(url)
    return page


def _watch(url: str, complaints: list[str]) -> None:
    if not url.startswith(("http://127.0.0.1", "http://localhost", "blob:", "data:", "file:")):
        complaints.append(f"asked for {url}")


def serious_findings(page: Page) -> list[str]:
    """What axe calls serious or critical: rule and place. It is brought in from outside the page's own policy."""
    from axe_playwright_python.base import AXE_SCRIPT

    page.evaluate(AXE_SCRIPT)
    found: dict[str, Any] = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{rule['id']}: {node['target']} {node['failureSummary']}"
        for rule in found["violations"]
        if rule["impact"] in {"serious", "critical"}
        for node in rule["nodes"]
    ]
