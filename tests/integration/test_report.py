"""`fsqueue report`: what the file says, from a spool and from a copy of its journal alone."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from journals import HOSTILE, write_journal
from support import PATIENCE, wait_until

from fsqueue.cli import exits
from integration import sample_tasks
from integration.conftest import working
from integration.report_tasks import Revealing, shout_and_fail

ALLOWED = {
    *("html", "head", "meta", "title", "style", "body", "header", "main", "footer", "section"),
    *("div", "span", "p", "b", "i", "h1", "h2", "ul", "li", "dl", "dt", "dd", "pre"),
    *("table", "thead", "tbody", "tr", "th", "td"),
    *("svg", "g", "path", "rect", "line", "circle", "text"),
}
MOST = 1_000_000


class Page(HTMLParser):
    """The elements of a page, and its text."""

    def __init__(self, path):
        super().__init__()
        self.data = Path(path).read_text("utf-8")
        self.tags, self.texts, self.attributes = [], [], []
        self._open = []
        self.feed(self.data)
        self.close()
        assert not self._open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag != "meta":
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if self._open and self._open[-1] != "style":
            self.texts.append(data)

    @property
    def text(self):
        return "\n".join(self.texts)

    def check(self):
        """It has no script, nothing that a browser would fetch, and is of a bounded size."""
        assert len(self.data.encode()) <= MOST
        assert set(self.tags) - {"title"} <= ALLOWED
        for name, value in self.attributes:
            assert not name.startswith("on"), name
            assert name not in {"href", "src", "style", "srcdoc", "action"}, (name, value)
        assert "url(" not in self.data
        assert "@import" not in self.data
        return self


@pytest.fixture
def report(fsqueue, tmp_path):
    """Write a report, and read it."""

    def write(*arguments, **options):
        path = tmp_path / "report.html"
        done = fsqueue("report", "-o", path, *arguments, **options)
        assert str(path) in done.stdout
        return Page(path).check()

    return write


def test_a_report_on_a_spool(app, failed, report, in_json):
    noisy = app.task(capture_output=True, label="word={word}")(shout_and_fail)
    with working(app):
        assert app.task(sample_tasks.add)(1).get(timeout=PATIENCE) == 2
        with pytest.raises(LookupError):
            noisy("oh dear").get(timeout=PATIENCE)
    page = report()
    assert "3 calls ended between" in page.text
    assert "2 failed" in page.text
    for part in ("integration.sample_tasks.add", "LookupError", "no oh dear here", "word=oh dear"):
        assert part in page.text
    assert "oh dear, on its output" in page.text
    assert "raise LookupError" in page.text  # the traceback
    found, stats = in_json("report"), in_json("stats", "--window", "24h")
    for name in ("calls", "failed", "retried", "lost"):
        assert found["totals"][name] == stats[name]
    assert {each["stats"]["task"]: each["stats"]["calls"] for each in found["tasks"]} == {
        each["task"]: each["calls"] for each in stats["tasks"]
    }
    assert sum(each["succeeded"] + each["failed"] for each in found["periods"]) == stats["calls"]


def test_redacted(app, report, in_json):
    with working(app):
        noisy = app.task(capture_output=True, label="word={word}")(shout_and_fail)
        with pytest.raises(LookupError):
            noisy("hush").get(timeout=PATIENCE)
    found = in_json("report")
    worker = found["workers"][0]["worker"]
    command = found["runs"][0]["record"]["command"][:80]
    page, document = report("--redact"), json.dumps(in_json("report", "--redact"))
    whole = report()
    for secret in ("hush", worker, command, app.store.layout.root):
        assert secret in whole.text
        assert secret not in page.data
        assert secret not in document
    assert "LookupError" in page.text
    assert "1 failed" in page.text
    assert "worker-1" in page.text


def test_nothing_is_unpickled(app, report, tmp_path):
    """The exception would write a file if it was."""
    mark = tmp_path / "unpickled"
    with working(app):
        invocation = app.task(_raise)(str(mark))
        wait_until(lambda: invocation.status.value == "failed")
    mark.unlink(missing_ok=True)
    assert "Revealing" in report().text
    assert not mark.exists()


def _raise(path):
    raise Revealing(path)


@pytest.mark.leaves_strays
def test_a_run_that_was_killed(app, report, in_json, fsqueue):
    code = f"""
import os, signal
from fsqueue import FSQueue
from integration.sample_tasks import add, fail_before
app = FSQueue("t", root={app.store.layout.root!r})
add = app.task(add)
ids = [add(number) for number in range(3)]
app.task(fail_before)("/nowhere/at/all", 1)
os.kill(os.getpid(), signal.SIGKILL)
"""
    app.task(sample_tasks.add)
    app.task(sample_tasks.fail_before)
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
        check=False,
        timeout=60,
    )
    assert done.returncode == -signal.SIGKILL
    (run,) = [each["client"] for each in in_json("runs")["runs"] if each["record"]]
    with working(app):
        assert app.task(sample_tasks.add)(1).get(timeout=PATIENCE) == 2
        wait_until(lambda: not list(Path(app.store.layout.pending_folder).glob("*/*/*")))
    page = report("--run", run)
    assert f"Run {run}: 4 calls ended between" in page.text
    assert "1 failed" in page.text
    found = in_json("report", "--run", run)
    assert found["totals"]["calls"] == 4
    assert [each["ended"] for each in found["runs"]] == [4]
    assert (
        "there is no run"
        in fsqueue("report", "--run", "zzzzzzzz", "--json", expect=exits.NOT_FOUND).stderr
    )
    assert (
        "not the name of a run"
        in fsqueue("report", "--run", "no such", "--json", expect=exits.USAGE).stderr
    )


def test_a_copy_of_the_journal_alone(app, failed, report, tmp_path, fsqueue):
    copy = tmp_path / "copy"
    shutil.copytree(app.store.layout.journal_folder, copy / "journal")
    before = sorted(copy.rglob("*"))
    for root in (copy, copy / "journal"):
        page = report("--root", root, root=False)
        assert "1 call ended between" in page.text
        assert "From a copy of the journal alone" in page.text
        assert "ConnectionError" in page.text
    assert sorted(copy.rglob("*")) == before
    done = fsqueue("report", "--json", "--root", tmp_path, root=False, expect=exits.NOT_FOUND)
    assert "no spool" in done.stderr


def test_an_empty_window(app, report, in_json, fsqueue):
    app.task(sample_tasks.add)(1)
    page = report()
    assert "No call ended between" in page.text
    assert "Nothing needed attention" in page.text
    assert in_json("report", "--between", "3h", "2h")["totals"]["calls"] == 0
    done = fsqueue("report", "--json", "--between", "2h", "3h", expect=exits.USAGE)
    assert "is not before" in done.stderr
    assert "-o" in fsqueue("report", expect=exits.USAGE).stderr
    done = fsqueue("report", "--json", "--since", "1h", "--run", "abcdefgh", expect=exits.USAGE)
    assert "only one of" in done.stderr


def test_an_old_journal_is_reported_up_to_its_end(tmp_path, report):
    write_journal(tmp_path / "old", attempts=10, age=30 * 86_400, workers=1)
    page = report("--root", tmp_path / "old", root=False)
    assert "10 calls ended between" in page.text
    assert "1 worker, bodies ran" in page.text
    assert "The journal ends in the hour before" in page.text


def test_hostile_texts_are_shown_as_they_are(tmp_path, report):
    write_journal(tmp_path / "copy", attempts=40, texts=HOSTILE)
    page = report("--root", tmp_path / "copy", root=False)
    assert "<script>alert(1)</script>" in page.text
    assert not any(mark in page.data for mark in "\x1b\x00\u202e\u2028")
    report("--root", tmp_path / "copy", "--redact", root=False)


def test_a_report_has_a_bounded_size(tmp_path, report):
    texts = ["&\"'<" * 60, *HOSTILE]
    write_journal(tmp_path / "copy", attempts=3000, texts=texts, workers=300, kinds=400)
    page = report("--root", tmp_path / "copy", root=False)
    assert "of 300 workers" in page.text
    assert "groups of failures" in page.text
    assert "below 1 MB" in page.text


def test_damaged_lines_are_passed_over(tmp_path, report):
    root = tmp_path / "copy"
    write_journal(root, attempts=20)
    for path in root.rglob("*.jsonl"):
        path.write_bytes(b'{"half a\n' + path.read_bytes() + b'{"v":9,"id":"x-1"}\n\xff\xfe\n[]\n')
    assert "20 calls ended between" in report("--root", root, root=False).text


def test_a_report_needs_no_extra():
    code = (
        "import sys, fsqueue.report.page, fsqueue.report.gather; "
        "print({'starlette', 'jinja2', 'uvicorn', 'rich', 'cloudpickle'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "set()\n"
