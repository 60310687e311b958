"""The pages: complete without scripts; few calls and many, hostile text, bad disks."""

from __future__ import annotations

import errno
import html
import os
import pickle
import re
import shutil
from pathlib import Path

import msgspec
import pytest
from monitor_harness import (
    ACT,
    TOKENS,
    Shop,
    client_of,
    pages_of,
    watch_of,
)

from fsqueue.monitor.rendering import FOLDER, lines
from fsqueue.spool.admin import controls
from fsqueue.spool.store.open_spool import open_store
from fsqueue.testing import Fault, FaultyFilesystem

TEMPLATES = Path(FOLDER, "templates")


def text_of(page: str) -> str:
    """What a reader without scripts sees."""
    body = re.sub(r"(?s)<(svg|dialog|head)\b.*?</\1>", " ", page)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", body)).split())


def seen(shop, path, **options) -> str:
    answer = client_of(shop.root, **options).get(path)
    assert answer.status_code == 200, (path, answer.text)
    return text_of(answer.text)


def test_the_overview_answers_in_words(shop):
    text = seen(shop, "/")
    assert "4 calls wait, and no worker takes them." in text or "8 calls wait" in text
    assert "No worker is alive. In the last hour 8 calls ended; 4 failed (50 %)." in text
    assert "4 calls can't run: gpu=1 is needed, and nothing has it." in text
    assert "fsqueue worker --queue default --resource gpu=1" in text
    assert "shop.archive is paused with 4 calls." in text
    assert "fsqueue resume archive" in text
    assert re.search(r"shop_tasks.parse 4 4 · 100 %", text)
    assert "ValueError cannot parse a dozen" in text


def test_an_empty_spool_says_how_to_begin(empty_shop):
    text = seen(empty_shop, "/")
    assert "No call has been made in this spool yet." in text
    assert f"fsqueue worker MODULE:VARIABLE --root {empty_shop.root}" in text
    assert "Nothing has failed in the last hour" in seen(empty_shop, "/failures")
    assert "No call matches." in seen(empty_shop, "/calls")
    assert "This starts one:" in seen(empty_shop, "/workers")


@pytest.mark.parametrize("which", ["shop", "empty_shop", "hostile_shop"])
def test_every_page_is_there_in_every_window_and_as_json(request, which):
    shop = request.getfixturevalue(which)
    client = client_of(shop.root)
    for path in pages_of(shop):
        joint = "&" if "?" in path else "?"
        for window in ("15m", "24h", "nonsense"):
            answer = client.get(f"{path}{joint}window={window}")
            assert answer.status_code == 200, (path, answer.text)
            assert answer.text.startswith("\n<!doctype html>") or "<!doctype html>" in answer.text
            assert "@digest@" not in answer.text
            assert not re.search("[\x00-\x08\x0b-\x1f\u202e]", answer.text)
        document = client.get(f"/api/v1{path if path != '/' else '/overview'}")
        assert document.status_code == 200, (path, document.text)
        assert document.json()


def test_the_documents_have_the_names_of_the_commands(shop):
    client = client_of(shop.root)
    overview = client.get("/api/v1/overview").json()
    assert {"queues", "workers", "recent", "counted_by", "age", "needs"} <= overview.keys()
    assert [each["type"] for each in client.get("/api/v1/failures").json()["groups"]] == [
        "ValueError"
    ]
    call = client.get(f"/api/v1/calls/{shop.failed[0].id}").json()
    assert call["state"] == "failed"
    assert "ValueError" in call["traceback"]
    assert client.get("/api/v1/calls?state=failed").json()["more"] is False


def test_links_are_relative_and_lead_somewhere(shop):
    """So all of it works behind any prefix."""
    client = client_of(shop.root, ACT, actions=True)
    checked = set()
    for path in pages_of(shop):
        page = client.get(path).text
        for link in re.findall(r'(?:href|action|src)="([^"]*)"', page):
            assert not link.startswith(("/", "http")), link
            target = str(client.base_url.join(path).join(html.unescape(link)))
            if "/actions/" not in target and target not in checked and len(checked) < 80:
                checked.add(target)
                assert client.get(target).status_code in {200, 303}, (path, link)
    assert len(checked) > 30


def test_a_base_path_may_be_left_on_or_taken_off_by_the_proxy(shop):
    client = client_of(shop.root, base_path="/proxy/8787/")
    for prefix in ("", "/proxy/8787"):
        assert client.get(f"{prefix}/failures").status_code == 200


def test_a_failed_call_shows_its_traceback_and_output(shop):
    text = seen(shop, f"/calls/{shop.failed[0].id}")
    assert "ValueError: cannot parse a dozen" in text
    assert "shop_tasks.py" in text
    assert "Output $ fsqueue logs" in text


def test_a_pending_call_says_why_it_does_not_run(shop):
    text = seen(shop, f"/calls/{shop.pending[0].id}")
    assert "Why is it not running?" in text
    assert "no worker or fleet has that" in text


@pytest.mark.parametrize(
    "path",
    [
        "/calls/abcdefghij-1",
        "/calls/not-an-id",
        "/calls/..%2F..%2Fetc%2Fpasswd",
        "/failures/00000000",
        "/workers/nobody",
        "/runs/abcdefghij",
        "/runs/%2e%2e",
        "/tasks/no.such",
        "/confirm/retry",
        "/confirm/burn",
        "/api/v1/tasks/overview",
        "/api/v1/overview/overview",
    ],
)
def test_what_does_not_exist_is_a_404_that_says_so(shop, path):
    answer = client_of(shop.root).get(path)
    assert answer.status_code == 404
    if not path.startswith("/api/"):
        assert "<!doctype html>" in answer.text
        assert "404: not found" in answer.text


@pytest.mark.parametrize("digits", ["9" * 5_000, "9" * 10, "0" * 5_000, "²"])
def test_numbers_of_any_length_do_no_harm(shop, digits):
    client = client_of(shop.root, ACT, actions=True)
    assert client.get("/calls", params={"start": digits}).status_code == 200
    assert client.get("/calls", params={"since": digits}).status_code == 200
    form = {"form": TOKENS.form, "group": "ValueError", "count": digits}
    assert client.post("/actions/retry", data=form).status_code == 409
    assert client.get(f"/calls/abcdefghij-{digits}").status_code in {404, 503}
    assert client.get(f"/calls/abcdefghij-1.{digits}").status_code in {404, 503}


def test_search_finds_ids_tasks_and_failures(shop):
    client = client_of(shop.root)
    answer = client.get("/search", params={"q": shop.done[0].id})
    assert answer.headers["location"] == f"./calls/{shop.done[0].id}"
    found = text_of(client.get("/search?q=PARSE").text)
    assert "task shop_tasks.parse" in found
    assert "failures ValueError: cannot parse a dozen" in found


def test_filters_of_the_list(shop):
    client = client_of(shop.root)

    def ids(query):
        return {each["id"] for each in client.get(f"/api/v1/calls?{query}").json()["calls"]}

    failed = {each.id for each in shop.failed}
    assert ids("state=failed") == ids("failure=ValueError") == failed
    assert ids("label=page%3D2") == {shop.done[2].id}
    assert ids("queue=archive&state=pending").isdisjoint(ids("queue=default&state=pending"))
    assert "Drop the filter task" in text_of(client.get("/calls?task=no.such").text)


def test_output_loses_its_colours_and_long_texts_are_cut():
    assert lines("\x1b[31mred\x1b[0m\r\nnext\x07") == "red\nnext\\x07"
    assert lines("\x1b]8;;http://x\x07link") == "link"


def test_nothing_is_ever_unpickled(tmp_path):
    """A pickle that would leave a file behind stands for every payload in the spool."""
    shop = Shop(str(tmp_path / "spool"), 2)
    trap = tmp_path / "sprung"

    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(trap),)

    payload = pickle.dumps(Trap())
    pickle.loads(payload)
    assert trap.exists()
    trap.rmdir()
    replaced = 0
    for folder, _, names in os.walk(shop.root):
        for name in names:
            path = Path(folder, name)
            if re.fullmatch(r"[a-z0-9]{10}-\d+(\.\d+)*", name):
                header, newline, _ = path.read_bytes().partition(b"\n")
                path.write_bytes(header + newline + payload)
                replaced += 1
    assert replaced >= 6
    client = client_of(shop.root, ACT, actions=True)
    for path in pages_of(shop):
        assert client.get(path).status_code in {200, 404, 503}
    assert not trap.exists()


# -- bad disks ------------------------------------------------------------------------------


def test_a_look_writes_nothing(shop):
    fs = FaultyFilesystem()
    watch = watch_of(shop.root, fs)
    client = client_of(shop.root, watch=watch)
    fs.inject()
    for path in pages_of(shop):
        assert client.get(path).status_code == 200
    assert {each.verb for each in fs.trace} <= {"read", "listdir", "stat", "fstat", "statvfs"}


def test_a_copy_that_nobody_may_write_to_is_shown(shop, tmp_path):
    copy = shutil.copytree(shop.root, tmp_path / "copy")
    for folder, _, names in os.walk(copy):
        for name in names:
            Path(folder, name).chmod(0o400)
        Path(folder).chmod(0o500)
    copied = client_of(str(copy))
    for path in ("/", "/calls", "/failures", f"/calls/{shop.failed[0].id}"):
        assert copied.get(path).status_code == 200


def test_a_spool_that_fails_gives_a_message_and_comes_back(shop):
    fs = FaultyFilesystem()
    client = client_of(shop.root, watch=watch_of(shop.root, fs))
    fs.inject(Fault.fail(errno.EIO, at=None, verb="listdir"))
    answer = client.get("/calls")
    assert answer.status_code in {200, 503}
    fs.inject(Fault.fail(errno.ESTALE, at=None, verb="statvfs"))
    answer = client.get("/")
    assert answer.status_code == 503
    assert "the shared directory fails" in answer.text
    fs.inject()
    assert client.get("/").status_code == 200


@pytest.mark.leaves_strays
def test_on_a_full_disk_all_is_shown_and_an_action_says_why_it_fails(tmp_path):
    shop = Shop(str(tmp_path / "spool"), 2)
    fs = FaultyFilesystem()
    full = [
        Fault.fail(errno.ENOSPC, at=None, verb=verb)
        for verb in ("create", "append", "link", "mkdir", "rename", "symlink", "utime", "unlink")
    ]
    looking = FaultyFilesystem(full)
    client = client_of(shop.root, watch=watch_of(shop.root, looking))
    for path in pages_of(shop):
        assert client.get(path).status_code == 200
    store = open_store(shop.root, fs)
    store.files.sync_clock()
    acting = client_of(shop.root, ACT, actions=True, writable=lambda: store)
    fs.inject(*full)
    form = {"form": TOKENS.form, "queue": "shop.default"}
    answer = acting.post("/actions/pause", data=form)
    assert answer.status_code == 400
    assert "No space left on device" in text_of(answer.text)
    fs.inject()
    assert acting.post("/actions/pause", data=form).status_code == 200


def test_files_that_vanish_during_a_look_do_no_harm(tmp_path):
    shop = Shop(str(tmp_path / "spool"), 3)

    class Vanishing(FaultyFilesystem):
        """Each folder that is listed loses its files at once."""

        def names(self, path, **options):
            found = super().names(path, **options)
            for name in found:
                if os.path.isfile(f"{path}/{name}") and not path.endswith("/spool"):
                    os.unlink(f"{path}/{name}")
            return found

    client = client_of(shop.root, watch=watch_of(shop.root, Vanishing()))
    for path in pages_of(shop):
        assert client.get(path).status_code in {200, 404}


# -- actions --------------------------------------------------------------------------------


@pytest.mark.leaves_strays
def test_a_bulk_action_whose_count_has_grown_is_refused(tmp_path):
    shop = Shop(str(tmp_path / "spool"), 2)
    client = client_of(shop.root, ACT, actions=True)
    page = client.get("/confirm/retry?group=ValueError").text
    assert "Run 2 failed calls of the group ValueError again?" in text_of(page)
    assert all(each.id in page for each in shop.failed)
    form = {"form": TOKENS.form, "group": "ValueError"}
    for count in ("1", "", "x", "-1"):
        answer = client.post("/actions/retry", data={**form, "count": count})
        assert answer.status_code == 409, text_of(answer.text)
        assert "this would now affect 2 calls" in answer.text
    assert len(list(controls.retryable(open_store(shop.root)))) == 2
    answer = client.post("/actions/retry", data={**form, "count": "2"})
    assert "2 calls run again (fsqueue retry --failed-with ValueError)" in answer.text
    assert list(controls.retryable(open_store(shop.root))) == []


@pytest.mark.leaves_strays
def test_actions_do_what_the_commands_do(tmp_path):
    shop = Shop(str(tmp_path / "spool"), 2)
    client = client_of(shop.root, ACT, actions=True)

    def act(name, **fields):
        answer = client.post(f"/actions/{name}", data={"form": TOKENS.form, **fields})
        return answer.status_code, text_of(answer.text)

    assert "shop.archive is served again (fsqueue resume" in act("resume", queue="shop.archive")[1]
    assert "is cancelled (fsqueue cancel" in act("cancel", id=shop.pending[0].id)[1]
    assert "had already ended" in act("cancel", id=shop.done[0].id)[1]
    assert act("requeue", id=shop.done[0].id)[0] == 400
    assert act("drain", worker="nobody")[0] == 400
    assert act("purge", queue="shop.archive", count="1")[0] == 409
    assert "2 calls cancelled" in act("purge", queue="shop.archive", count="2")[1]


def test_facts_are_those_of_msgspec(shop):
    """The documents can be decoded by whoever knows the structs."""
    document = client_of(shop.root).get("/api/v1/failures").content
    assert msgspec.json.decode(document)["groups"][0]["calls"] == 4
