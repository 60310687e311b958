"""What prompts and notebooks show."""

from __future__ import annotations

import re

import pytest
from support import PATIENCE

from fsqueue import State
from integration import sample_tasks as sample
from integration.conftest import working

CELL = """
import sys
from fsqueue import FSQueue
sys.path[:0] = {path!r}
from integration import sample_tasks
app = FSQueue("t", root={root!r})
group = app.task(sample_tasks.add).parallelize([(1,), (2,), (3,)])
"""


def test_an_invocation_shows_its_state(app):
    invocation = app.task(sample.add)(1)
    assert repr(invocation) == f"<Invocation {invocation.id} pending>"
    assert "pending" in invocation._repr_html_()
    with working(app):
        assert invocation.get(PATIENCE) == 2
    assert repr(invocation) == f"<Invocation {invocation.id} succeeded>"


def test_what_cannot_be_asked_is_unknown(app):
    known = app.task(sample.add)(1)
    known.cancel()
    unknown = app.invocation(known.id[:-1] + ("0" if known.id[-1] != "0" else "1"))
    assert repr(unknown).endswith(" unknown>")


def test_a_group_counts_its_states(app):
    group = app.task(sample.add).parallelize([(1,), (2,), (3,)])
    assert group[1].cancel()
    assert repr(group) == "<InvocationGroup of 3: 2 pending, 1 cancelled>"
    assert "1&nbsp;cancelled" in group._repr_html_()
    group.cancel()


def test_a_large_group_is_not_asked(app):
    group = app.task(sample.add, parallel_batch_size=101).parallelize([(n,) for n in range(101)])
    assert repr(group) == "<InvocationGroup of 101>"
    group.cancel()


def test_a_call_that_ran_inline(make_app):
    app = make_app(dev_mode_force_sync_tasks=True)
    invocation = app.task(sample.add)(1)
    assert repr(invocation) == f"<InlineInvocation {invocation.id} {State.SUCCEEDED}>"


def test_the_app_shows_where_it_is(app, spool):
    app.task(sample.add)
    assert repr(app) == f"<FSQueue 't' at {spool}, 1 tasks>"
    assert spool in app._repr_html_()


def test_the_status_is_text_and_tables(app, spool):
    app.task(sample.add)(1).cancel()
    calls = [app.task(sample.add)(n) for n in range(2)]
    with working(app):
        assert [each.get(PATIENCE) for each in calls] == [1, 2]
        status = app.status()
    text, html = repr(status), status._repr_html_()
    assert f"{spool}: 2 results, 1 not collected" in text
    assert re.search(r"^queue t\.default: 0 due, 0 delayed", text, re.MULTILINE)
    assert re.search(r"^worker \S+: alive, \d of \d+ thread slots busy", text, re.MULTILINE)
    assert "t.default" in html
    assert status.snapshot.workers[0].name in html


def test_names_cannot_add_markup(app, monkeypatch):
    from fsqueue.results.shown import call_html, table_html

    assert "<i>" not in call_html("<i>", "<i>", {"<i>": 1})
    assert "<i>" not in table_html(["<i>"], [["<i>\x1b"]])


@pytest.fixture
def kernel():
    manager = pytest.importorskip("jupyter_client.manager").KernelManager(kernel_name="python3")
    manager.start_kernel()
    client = manager.blocking_client()
    client.start_channels()
    try:
        client.wait_for_ready(PATIENCE)
        yield client
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


@pytest.mark.filterwarnings("ignore")
def test_a_notebook_shows_a_bar_and_states(app, spool, kernel):
    import sys

    shown = []

    def collect(message):
        content = message["content"]
        if message["msg_type"] == "error":
            raise AssertionError("\n".join(content["traceback"]))
        if "data" in content:
            shown.append((message["msg_type"], content["data"]))

    def run(code):
        kernel.execute_interactive(code, timeout=PATIENCE, output_hook=collect)

    run(CELL.format(path=list(sys.path), root=spool))
    run("group")
    assert "3&nbsp;pending" in shown[-1][1]["text/html"]
    app.task(sample.add)  # the worker finds calls as soon as it has begun
    with working(app):
        shown.clear()
        run("group.progress('adding').results")
    kinds = [kind for kind, _ in shown]
    assert kinds[0] == "display_data"
    assert kinds[-2:] == ["update_display_data", "execute_result"]
    assert "adding" in shown[0][1]["text/html"]
    assert "3/3" in shown[-2][1]["text/html"]
    assert '<progress value="3" max="3">' in shown[-2][1]["text/html"]
    run("app.close()")
