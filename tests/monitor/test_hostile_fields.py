"""Sixty hostile texts in each field of text of the spool: pages show them, and they do nothing."""

from __future__ import annotations

import html
import re

import pytest
from hostile_fields import TRIGGERS, WORKER, forge
from monitor_harness import CORPUS, Shop, client_of
from test_hostile import strange_elements

from fsqueue.common.printable import printable

# What a page has of these texts: each as a whole, or its beginning where a cell is short.
PAGES = {
    "/": "texts of the first rows",
    "/tasks": CORPUS,
    "/failures": CORPUS,
    "/workers": CORPUS,
    "/runs": CORPUS,
    "/jobs": CORPUS,
    "/triggers": CORPUS,
    "/calls": "calls of the spool",
}


@pytest.fixture(scope="module")
def forged(tmp_path_factory):
    """A spool with such records."""
    shop = Shop(str(tmp_path_factory.mktemp("spools") / "forged"), 1)
    forge(shop.root)
    return shop


def read(forged, path):
    answer = client_of(forged.root, triggers=lambda: TRIGGERS).get(path)
    assert answer.status_code == 200, (path, answer.text[:500])
    assert strange_elements(answer.text) == [], path
    assert "123123" not in answer.text
    return answer.text


@pytest.mark.parametrize("path", PAGES)
def test_each_text_of_each_field_is_shown_as_text(forged, path):
    texts = re.sub(r"<[^>]*>", "\n", read(forged, path))
    # In a list of names the browser's own title has them too.
    lines = html.unescape(texts)
    if isinstance(PAGES[path], list):
        missing = [each for each in CORPUS if printable(each)[:60] not in lines]
        assert missing == []


def test_each_text_of_a_worker_is_shown_as_text(forged):
    """Its host, queues, resources, runner, job and progress."""
    for number, text in enumerate(CORPUS):
        name = WORKER if number == 0 else f"node-{number}-aaaaaa"
        page = html.unescape(re.sub(r"<[^>]*>", "\n", read(forged, f"/workers/{name}")))
        assert page.count(printable(text)) >= 5, text


def test_each_task_run_and_failure_has_a_page(forged):
    client = client_of(forged.root)
    for path, kind in (("/tasks", "tasks"), ("/failures", "failures"), ("/runs", "runs")):
        links = re.findall(rf'href="\./({kind}/[^"?]+)', read(forged, path))
        assert len(set(links)) >= len(CORPUS)
        for link in sorted(set(links)):
            answer = client.get(f"/{html.unescape(link)}")
            assert answer.status_code == 200, link
            assert strange_elements(answer.text) == [], link
