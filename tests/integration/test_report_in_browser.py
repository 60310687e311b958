"""A report in a real browser, from disk and without a network."""

from __future__ import annotations

import shutil

import pytest
from journals import HOSTILE, write_journal

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")


@pytest.fixture
def browser():
    with playwright.sync_playwright() as started:
        found = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


def test_a_report_works_from_disk_and_runs_nothing(tmp_path, fsqueue, browser):
    write_journal(tmp_path / "copy", attempts=90, texts=HOSTILE)
    path = tmp_path / "report.html"
    fsqueue("report", "-o", path, "--root", tmp_path / "copy", root=False)
    backgrounds = set()
    for scheme in ("light", "dark"):
        context = browser.new_context(color_scheme=scheme, offline=True)
        page = context.new_page()
        problems, requests = [], []
        page.on("console", lambda message, seen=problems: seen.append(message.text))
        page.on("pageerror", lambda error, seen=problems: seen.append(str(error)))
        page.on("dialog", lambda dialog, seen=problems: seen.append(dialog.message))
        page.on("request", lambda request, seen=requests: seen.append(request.url))
        page.goto(path.as_uri())
        for width in (820, 1440):
            page.set_viewport_size({"width": width, "height": 900})
            wide = "document.scrollingElement.scrollWidth - document.documentElement.clientWidth"
            assert page.evaluate(wide) <= 0, (scheme, width)
        assert page.locator("h1").inner_text().startswith("90 calls ended")
        assert page.locator("text=<script>alert(1)</script>").count() > 0
        assert page.locator("svg.chart").first.bounding_box()["width"] > 100
        backgrounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        assert page.pdf(format="A4").startswith(b"%PDF")
        assert (problems, requests) == ([], [path.as_uri()])
        context.close()
    assert len(backgrounds) == 2
