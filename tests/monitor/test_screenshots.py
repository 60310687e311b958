"""Pages look as in the golden pictures, in both schemes and at both widths."""

from __future__ import annotations

import importlib.util
import os

import httpx2
import pytest
from monitor_harness import SEE
from screenshots import (
    ARGUMENTS,
    CHROMIUM,
    FOLDER,
    KINDS,
    PAGES,
    difference,
    drawn_with,
    pictures,
    served,
)

# Of the pixels: a hundredth of a line of text.
TOLERANCE = 0.001
pytestmark = [
    # Many pages, on a machine that runs all other tests too.
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        not os.access(CHROMIUM, os.X_OK) or importlib.util.find_spec("playwright") is None,
        reason=f"needs {CHROMIUM} and playwright",
    ),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield found
        found.close()


def test_pages_look_as_in_the_golden_pictures(browser):
    """After a change on purpose: python tests/monitor/screenshots.py, and look at them."""
    golden, here = (FOLDER / "drawn-with.txt").read_text(), drawn_with(browser)
    if golden != here:
        pytest.skip(f"the golden pictures were drawn with {golden}, and this is {here}")
    seen = {}
    for name, picture in pictures(browser):
        seen[name] = difference(browser, picture, (FOLDER / f"{name}.png").read_bytes())
    assert len(seen) == len(PAGES) * len(KINDS)
    assert {name: share for name, share in seen.items() if share > TOLERANCE} == {}


def test_a_long_list_of_what_needs_attention_leaves_room_for_the_charts():
    with served() as base:
        page = httpx2.get(f"{base}/", headers={"Authorization": f"Bearer {SEE}"}).text
    assert page.count("can&#39;t run: no live worker serves") == 8
    assert "and 12 more of the same kind, or less urgent" in page
    assert ">1,200 calls wait, and no worker takes them.<" in page  # of all queues, not of a page
    assert '<span data-k="backlog.due">1,200</span>' in page


def test_a_difference_is_seen(browser):
    """So the comparison is not blind."""
    light = (FOLDER / "overview-light-1440.png").read_bytes()
    dark = (FOLDER / "overview-dark-1440.png").read_bytes()
    assert difference(browser, light, light) == 0
    assert difference(browser, light, dark) > 0.5
    assert difference(browser, light, (FOLDER / "workers-light-1440.png").read_bytes()) > 0.01
    assert difference(browser, light, (FOLDER / "overview-light-820.png").read_bytes()) == 1
