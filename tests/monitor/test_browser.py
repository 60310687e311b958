"""The pages in a real browser: no errors, accessible, usable by keyboard, live, and safe."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import httpx2
import pytest
from hostile_fields import forge
from large_spool import make_large
from monitor_harness import HOSTILE, Shop, pages_of
from monitor_harness import opened as opened_spool
from support import PATIENCE, WHOLE, wait_until

if TYPE_CHECKING:
    from collections.abc import Sequence

CHROMIUM = "/usr/bin/chromium"
MISSING = [
    *([] if os.access(CHROMIUM, os.X_OK) else [CHROMIUM]),
    *(each for each in ("playwright", "axe_playwright_python")
      if importlib.util.find_spec(each) is None),
]  # fmt: skip
pytestmark = [
    # Many pages, on a machine that runs all other tests too.
    pytest.mark.timeout(600),
    pytest.mark.skipif(bool(MISSING), reason=f"needs {', '.join(MISSING)}"),
    # Its transports stay open until the process ends.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
WIDTHS = (820, 1440)


@contextlib.contextmanager
def monitor(root: str, *options: str, around: Sequence[str] = ()):
    """A real monitor, started by another command or none; its links to see and to act."""
    command = [*around, sys.executable, "-m", "fsqueue", "monitor", "--root", root, "--actions"]
    command += options
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            text = ""
            while "with actions" not in text:
                line = process.stdout.readline()
                assert line, f"the monitor has ended: {text}"
                text += line
            yield re.findall(r"http://\S+", text), process
        finally:
            process.terminate()
            assert process.wait(PATIENCE) == 0


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture(scope="module")
def links(shop):
    with monitor(shop.root) as (found, _):
        yield found


class Watched:
    """A page of a browser, and all that must not happen in it."""

    def __init__(self, browser, link: str, **options) -> None:
        options = {
            "viewport": {"width": 1440, "height": 900},
            "reduced_motion": "reduce",
            **options,
        }
        self.context = browser.new_context(**options)
        self.context.set_default_timeout(1000 * PATIENCE)
        self.page = self.context.new_page()
        self.problems: list[str] = []
        self.base = link.partition("/?token")[0]
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.problems.append(f"error: {error}"))
        self.page.on("dialog", self._dialog)
        self.page.on("request", self._request)
        self.page.on("response", self._response)
        self.page.goto(link)

    def _console(self, message) -> None:
        if message.type in {"error", "warning"}:
            self.problems.append(f"{message.type}: {message.text}")

    def _dialog(self, dialog) -> None:
        self.problems.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _request(self, request) -> None:
        if not request.url.startswith(f"{self.base}/"):
            self.problems.append(f"a request to {request.url}")

    def _response(self, response) -> None:
        if response.status >= 400:
            self.problems.append(f"{response.status}: {response.url}")

    def go(self, path: str) -> None:
        self.page.goto(f"{self.base}{path}", wait_until="load")

    def close(self) -> None:
        self.context.close()
        assert self.problems == []


@pytest.fixture
def opened(browser):
    """Opens pages in which nothing may go wrong."""
    found: list[Watched] = []

    def opener(link: str, **options) -> Watched:
        found.append(Watched(browser, link, **options))
        return found[-1]

    yield opener
    for each in found:
        each.close()


def is_there(link: str, path: str) -> bool:
    """Whether a monitor has a page."""
    base, _, token = link.partition("/?token=")
    headers = {"Authorization": f"Bearer {token}"}
    return httpx2.get(f"{base}{path}", headers=headers, timeout=PATIENCE).status_code == 200


def axe() -> str:
    import axe_playwright_python

    (path,) = Path(axe_playwright_python.__file__).parent.rglob("axe.min.js")
    return path.read_text("utf-8")


@pytest.fixture(scope="module")
def large_shop(tmp_path_factory):
    """A spool with 200 workers, journals of a day, tasks with long names and much that waits."""
    found = Shop(str(tmp_path_factory.mktemp("spools") / "large"), 1)
    make_large(opened_spool(found.root))
    return found


# All pages have the same colours: the usual ones in both schemes, the others in one.
LOOKS = [("empty", "light"), ("small", "light"), ("small", "dark"), ("large", "dark")]
if WHOLE:
    LOOKS += [("empty", "dark"), ("large", "light")]


@pytest.mark.parametrize(("size", "scheme"), LOOKS)
def test_every_page_is_accessible_and_fits(opened, request, size, scheme):
    """At both widths, without and with the rights to act."""
    spool = request.getfixturevalue({"small": "shop"}.get(size, f"{size}_shop"))
    with monitor(spool.root) as (links, _):
        web = opened(links[size == "small"], color_scheme=scheme)
        script = axe()
        if spool.failed:  # the journals of 200 workers are read over several looks
            wait_until(lambda: is_there(links[0], "/failures/ValueError"))
        more = ["/confirm/purge?queue=shop.archive", "/runs?window=7d"] if size == "small" else []
        for path in [*pages_of(spool), *more]:
            web.go(path)
            for width in WIDTHS:
                web.page.set_viewport_size({"width": width, "height": 900})
                wide = web.page.evaluate("() => document.documentElement.scrollWidth")
                assert wide <= width, path
            web.page.evaluate(script)
            found = web.page.evaluate("() => axe.run(document, {resultTypes: ['violations']})")
            bad = [(each["id"], each["nodes"][0]["html"][:200]) for each in found["violations"]]
            assert bad == [], path
        web.close()


def test_everything_can_be_done_by_keyboard(opened, links):
    web = opened(links[0])
    page = web.page
    page.keyboard.press("Tab")
    assert page.evaluate("() => document.activeElement.textContent") == "Skip to content"
    places = {"f": "/failures", "w": "/workers", "c": "/calls", "r": "/runs", "t": "/tasks"}
    places |= {"j": "/jobs", "i": "/triggers", "o": "/"}
    for key, path in places.items():
        page.keyboard.press("g")
        page.keyboard.press(key)
        page.wait_for_url(f"{web.base}{path}")
    page.keyboard.press("g")
    page.keyboard.press("f")
    page.wait_for_url(f"{web.base}/failures")
    page.keyboard.press("]")
    page.wait_for_url("**window=6h")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_url("**/failures/*")
    assert "ValueError" in page.inner_text("h1")
    page.keyboard.press("?")
    assert page.locator("dialog").is_visible()
    page.keyboard.press("Escape")
    assert not page.locator("dialog").is_visible()
    before = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
    page.keyboard.press("d")
    assert page.evaluate("() => getComputedStyle(document.body).backgroundColor") != before
    page.keyboard.press("/")
    page.keyboard.type("parse")
    page.keyboard.press("Enter")
    page.wait_for_url("**/search?q=parse")
    assert "shop_tasks.parse" in page.inner_text("main")


def test_without_scripts_it_shows_and_does_the_same(opened, links):
    web = opened(links[1], java_script_enabled=False)
    page = web.page
    assert page.locator("noscript meta[http-equiv=refresh]").count() == 1
    assert "4 calls can't run" in page.inner_text("main")
    page.get_by_role("link", name="Failures", exact=False).first.click()
    assert "ValueError" in page.inner_text("main")
    web.go("/")
    # Its origin is "null", as the page sends no referrer.
    page.get_by_role("row", name="shop.archive").get_by_role("button", name="Resume").click()
    assert "is served again" in page.inner_text("main")
    web.go("/")
    page.get_by_role("row", name="shop.archive").get_by_role("button", name="Pause").click()
    assert "shop.archive is paused" in page.inner_text("main")


def test_everything_that_can_be_clicked_can_be_reached_by_tab(opened, links, shop):
    web = opened(links[1])
    page = web.page
    for path in pages_of(shop):
        web.go(path)
        # Ends the stream: an update would renew the page, and with it the numbers.
        page.evaluate("() => dispatchEvent(new Event('pagehide'))")
        count = page.evaluate(CLICKABLE)
        reached = set()
        for _ in range(count + 5):
            page.keyboard.press("Tab")
            reached.add(page.evaluate("() => document.activeElement.dataset.number || ''"))
        assert len(reached - {""}) == count, path


# Numbers what can be clicked, and counts it.
CLICKABLE = """() => {
  const found = [...document.querySelectorAll('a[href], button, input:not([type=hidden]), select')]
    .filter((each) => each.checkVisibility() && !each.closest('dialog'));
  found.forEach((each, index) => { each.dataset.number = `n${index}`; });
  return found.length;
}"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can make a network namespace")
def test_without_any_network_it_works(browser, shop, tmp_path):
    """The monitor and Chromium run where there is nothing but loopback."""
    script = tmp_path / "chromium"
    with monitor(shop.root, around=("unshare", "--net", "sh", "-c", LOOPBACK, "sh")) as found:
        links, process = found
        script.write_text(
            f'#!/bin/sh\nexec nsenter --net=/proc/{process.pid}/ns/net {CHROMIUM} "$@"\n'
        )
        script.chmod(0o755)
        offline = browser.browser_type.launch(executable_path=str(script), args=["--no-sandbox"])
        web = Watched(offline, links[0])
        for path in pages_of(shop):
            web.go(path)
            assert web.page.locator("h1").count() == 1
        web.page.wait_for_selector("html.is-live")
        web.close()
        offline.close()


LOOPBACK = 'ip link set lo up && exec "$@"'


def test_sixty_hostile_texts_in_each_field_do_nothing(opened, tmp_path):
    shop = Shop(str(tmp_path / "spool"), 1)
    forge(shop.root)
    with monitor(shop.root) as (links, _):
        web = opened(links[1])
        for path in ("/", "/tasks", "/failures", "/workers", "/runs", "/jobs", "/calls"):
            web.go(path)
            web.page.wait_for_selector("html.is-live")
            # Whatever would run, load or ask has done so by the end of a second frame.
            web.page.evaluate("() => new Promise((done) => requestAnimationFrame("
                              "() => requestAnimationFrame(done)))")  # fmt: skip
            assert web.page.evaluate("() => document.images.length + document.forms.length") <= 20
        web.close()


def test_hostile_text_does_nothing(opened, hostile_shop):
    with monitor(hostile_shop.root) as (links, _):
        web = opened(links[1])
        for path in [*pages_of(hostile_shop), f"/calls/{hostile_shop.failed[1].id}"]:
            web.go(path)
            assert web.page.evaluate("() => typeof axe + document.images.length") == "undefined0"
        web.page.fill("#q", HOSTILE[:60])
        web.page.keyboard.press("Enter")
        web.page.wait_for_url("**/search?*")
        assert "<script>alert(1)</script>" in web.page.inner_text("h1")
        web.close()


@pytest.mark.leaves_strays
def test_an_open_page_follows_the_spool_and_says_when_its_monitor_is_gone(browser, tmp_path):
    import shop_tasks

    from fsqueue import FSQueue

    shop = Shop(str(tmp_path / "spool"), 1)
    with monitor(shop.root) as (links, process):
        web = Watched(browser, links[0])
        page = web.page
        page.clock.install()
        web.go("/")
        page.wait_for_selector("html.is-live")
        page.evaluate("() => { window.kept = true; }")
        app = FSQueue("shop", root=shop.root)
        task = app.task(shop_tasks.render, queue="brandnew")
        task(1)
        app.close()
        # A row that has come: the page is swapped, and not loaded again.
        page.get_by_role("link", name="shop.brandnew").wait_for(timeout=1000 * PATIENCE)
        assert page.evaluate("() => window.kept")
        assert web.problems == []
        process.terminate()
        process.wait(PATIENCE)

        def noticed():
            page.clock.fast_forward(11_000)
            return page.locator("#gone p").count()

        wait_until(noticed)
        assert "does not answer" in page.inner_text("#gone")
        assert page.evaluate("() => document.documentElement.classList.contains('is-gone')")
        web.context.close()
