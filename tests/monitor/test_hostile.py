"""Hostile text in the spool and in addresses: it is shown as text, and does nothing."""

from __future__ import annotations

import html
import json
import re
import shlex
import time
from html.parser import HTMLParser
from pathlib import Path

import pytest
from journals import write_journal
from monitor_harness import ACT, CORPUS, ESCAPED, HOSTILE, Shop, client_of, pages_of

from fsqueue.cli.main import command_line
from fsqueue.common.commands import command
from fsqueue.common.printable import printable
from fsqueue.monitor import attention
from fsqueue.monitor.attention import link
from fsqueue.monitor.rendering import FOLDER, environment
from fsqueue.spool.history.journal import hour_of
from fsqueue.spool.store.open_spool import open_store

TEMPLATES = Path(FOLDER, "templates")


class Elements(HTMLParser):
    """Finds elements and attributes that our templates do not have."""

    def __init__(self) -> None:
        super().__init__()
        self.strange: list[str] = []

    def handle_starttag(self, tag, attrs):
        known = dict(attrs)
        if tag == "script" and not (known.get("src") or "").endswith("static/monitor.js"):
            self.strange.append(tag)
        if tag not in OURS or any(name.startswith("on") or name == "style" for name in known):
            self.strange.append(f"{tag} {attrs}")
        if str(known.get("href", "")).lower().startswith(("javascript:", "data:", "http")):
            self.strange.append(f"{tag} {attrs}")


OURS = frozenset(
    re.findall(
        r"\w+",
        """html head meta title link script noscript body a header div span i b form label input
        button nav main h1 h2 p ul li section table thead tbody tr th td svg g rect path line
        text circle dl dt dd pre br time small code footer dialog kbd""",
    )
)


def strange_elements(page: str) -> list[str]:
    found = Elements()
    found.feed(page)
    return found.strange


def test_hostile_text_is_shown_as_text(hostile_shop):
    client = client_of(hostile_shop.root, ACT, actions=True)
    shown = 0
    for path in pages_of(hostile_shop):
        page = client.get(path).text
        assert "<script>alert" not in page
        assert "<img" not in page
        assert "\x1b" not in page
        assert "\u202e" not in page
        assert "123123" not in page
        assert strange_elements(page) == [], path
        shown += ESCAPED in page
    assert shown >= 6
    for path in ("/search", "/calls", "/failures"):
        for name in ("q", "task", "window", "state", "label"):
            page = client.get(path, params={name: HOSTILE}).text
            assert "<script>alert" not in page
            assert "<img" not in page


def test_sixty_hostile_texts_are_shown_as_they_are(hostile_shop):
    assert len(CORPUS) >= 60
    page = client_of(hostile_shop.root).get(f"/calls/{hostile_shop.failed[1].id}").text
    output = re.search(r"(?s)<pre[^>]*>(<script|&lt;script.*?)</pre>", page)
    assert html.unescape(output[1]).splitlines() == CORPUS
    client = client_of(hostile_shop.root)
    for number, text in enumerate(CORPUS):
        path = ("/search", "/calls", "/failures")[number % 3]
        answer = client.get(path, params=dict.fromkeys(("q", "label", "task"), text))
        assert "123123" not in answer.text
        assert strange_elements(answer.text) == []


def test_hostile_records_of_workers_and_clients(tmp_path):
    shop = Shop(str(tmp_path / "spool"), 1)
    layout = open_store(shop.root).layout
    client = shop.done[0].id.rpartition("-")[0]
    path = layout.client_record(client)
    record = json.loads(Path(path).read_bytes())
    record |= {"command": HOSTILE, "host": HOSTILE, "user": HOSTILE, "folder": HOSTILE}
    Path(path).write_text(json.dumps(record))
    name = "evil-1-aaaaaa"
    worker = {"name": name, "host": HOSTILE, "boot": "", "pid": 1, "start": "", "started": 1.0}
    worker |= {"queues": [HOSTILE], "runner": HOSTILE, "concurrency": 1}
    Path(layout.worker_record(name)).write_text(json.dumps(worker))
    web = client_of(shop.root)
    for path in ("/runs", f"/runs/{client}", "/workers", f"/workers/{name}", "/"):
        page = web.get(path)
        assert page.status_code == 200
        assert "<script>alert" not in page.text
        assert "<img" not in page.text
    assert ESCAPED in web.get(f"/runs/{client}").text


def test_no_template_passes_text_on_unescaped():
    for path in TEMPLATES.iterdir():
        text = path.read_text("utf-8")
        assert not re.search(r"\|\s*safe\b|autoescape|Markup", text), path
        assert 'style="' not in text
        assert not re.search(r"\s[\w-]+=\{\{", text), f"{path}: an attribute without quotes"
        assert not re.search(r"\son\w+=", text), f"{path}: a script in an attribute"


def test_a_forged_line_of_the_journal_ends_no_page(spool):
    store = open_store(spool)
    store.files.sync_clock()
    write_journal(Path(spool), attempts=4, workers=1, age=60.0)
    (path,) = Path(store.layout.journal_hour(hour_of(time.time() - 60.0))).glob("*.jsonl")
    for forged in (b"../../x", b"abcdefgh-1/.."):
        line = path.read_bytes().splitlines()[0]
        with path.open("ab") as file:
            forged_id = line.replace(b"abcdefgh-0", forged)
            file.write(forged_id.replace(b"Errorplain", b"ForgedError") + b"\n")
    client = client_of(spool)
    for page in ("/", "/failures", "/failures/Errorplain", "/runs"):
        shown = client.get(page)
        assert shown.status_code == 200
        assert "ForgedError" not in shown.text
    assert client.get("/failures/ForgedError").status_code == 404


WORDS = (
    "y; touch /tmp/pwn\n",
    "$(id)`id`'\"\r\n",
    "a\x00b\u2028c\x1b[31m",
    "",
    "\ud800",
    "é" * 3_000,
    "-x",
    "--json",
    "--",
)


@pytest.mark.parametrize("word", WORDS)
def test_a_copied_command_takes_text_of_the_spool_as_one_word(word):
    env = environment()
    text = "{% import 'parts.html' as parts %}{{ parts.cmd(command_of('failures', word)) }}"
    page = env.from_string(text).render(word=word)
    copied = html.unescape(re.search(r'data-copy="([^"]*)"', page)[1])
    assert copied.isprintable()
    first, *words = shlex.split(copied)
    assert first == "fsqueue"
    assert parsed(words) == {"group": printable(word), "as_json": False}


@pytest.mark.parametrize("word", WORDS)
def test_text_of_the_spool_is_no_option_of_a_copied_command(word):
    task = {"task": printable(word)} if word else {}
    copied = shlex.split(command("failures", task=word))[1:]
    assert parsed(copied) == {"as_json": False, **task}
    copied = shlex.split(command("failures", "-x", task=word, json=True))[1:]
    assert parsed(copied) == {"group": "-x", "as_json": True, **task}


def parsed(words) -> dict[str, object]:
    """What the command line takes these words for, without what it fills in."""
    name, *rest = words
    context = command_line.get_command(None, name).make_context(name, rest)
    filled = {"app", "root", "since"}
    return {key: value for key, value in context.params.items()
            if key not in filled and value is not None}  # fmt: skip


def test_links_of_the_attention_list_are_quoted():
    assert link("workers", "a/b?c#d") == "workers/a%2Fb%3Fc%23d"
    assert link("failures", task="a&b=c d") == "failures?task=a%26b%3Dc+d"
    source = Path(attention.__file__).read_text("utf-8")
    assert not re.findall(r'\blink=f?"(?!workers")', source)


def test_every_command_of_a_page_is_built_by_one_function():
    for path in TEMPLATES.iterdir():
        for call in re.findall(r"parts\.cmd\((.*?)\)", path.read_text("utf-8")):
            assert call in {"command", "need.command"} or call.startswith("command_of("), path
    for path in Path(FOLDER).rglob("*.py"):
        assert not re.search(r'"fsqueue [a-z-]+ .*\{', path.read_text("utf-8")), path
