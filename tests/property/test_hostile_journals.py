"""Spoiled and forged journals: statistics are of what can be read, and workers go on."""

from __future__ import annotations

import contextlib
import json
import os

import msgspec
import pytest
from click.testing import CliRunner
from hostile_files import HUGE, NO_FILES, SECRET, SPOILS, damaged, echo, named, read, rewrite
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from integration.conftest import working

from examples import examples
from fsqueue.cli.main import command_line
from fsqueue.spool.history.entries import Entry, Sums, TaskSums
from fsqueue.spool.history.journal import MOST_SUMS, Journal, hour_of
from fsqueue.spool.history.statistics import read_stats
from fsqueue.spool.worker.expiry import expire

GOOD, HOSTILE = "good-1-aaaaaa", "hostile-1-aaaaaa"


def noted(store, worker: str, calls: int = 1) -> str:
    """The sums that a worker has left."""
    store.files.sync_clock()
    journal = Journal(store, slots=1)
    journal.begin()
    for _ in range(calls):
        journal.add(
            Entry(
                id="abcd-1",
                task="t.f",
                queue="t.default",
                attempt=1,
                state="succeeded",
                started=store.clock.now(),
                wait=0.1,
                run=0.1,
            )
        )
    journal.close(worker)
    return store.layout.journal_sums(hour_of(store.clock.now()), worker)


@pytest.mark.parametrize("spoil", SPOILS, ids=named)
def test_a_spoiled_journal_hides_no_other(app, outside, spoil):
    store = app.store
    noted(store, GOOD, 3)
    for path in (noted(store, HOSTILE), noted(store, HOSTILE).replace(".sums", ".jsonl")):
        spoil(path, outside)
    stats = read_stats(store, 3600.0)
    assert 3 <= stats.calls <= 5
    assert SECRET not in repr(stats)
    assert stats.workers[0].worker == GOOD
    assert outside.is_untouched()


@pytest.mark.parametrize("spoil", NO_FILES, ids=named)
@pytest.mark.parametrize("place", ["folder", "hour"])
def test_something_else_in_the_place_of_a_folder(app, outside, spoil, place):
    store = app.store
    hour = os.path.dirname(noted(store, GOOD))
    path = {"folder": store.layout.journal_folder, "hour": hour}[place]
    os.rename(path, f"{store.layout.root}/tmp/away")
    rewrite(path, b"")
    spoil(path, outside)
    assert read_stats(store, 3600.0).calls == 0
    with working(app):
        assert app.task(echo)("value").get(60) == "value"
    assert outside.is_untouched()
    expire(store, result_ttl=3600.0, journal_ttl=0.0)
    assert outside.is_untouched()
    os.rename(f"{store.layout.root}/tmp/away", f"{store.layout.root}/away")


@pytest.mark.parametrize("spoil", NO_FILES, ids=named)
def test_a_worker_that_cannot_write_its_journal_works_on(app, outside, spoil):
    store = app.store
    path = noted(store, HOSTILE)
    for each in (path, path.replace(".sums", ".jsonl")):
        spoil(each, outside)
    journal = Journal(store, slots=1)
    journal.begin()
    journal.hold(1)
    with contextlib.suppress(OSError):
        journal.flush(HOSTILE)
    journal.close(HOSTILE)
    assert outside.is_untouched()


def line(**changes: object) -> bytes:
    sums = Sums(
        serial=1, began=0.0, since=0.0, until=0.0, slots=1, tasks={"t.f": TaskSums(calls=1)}
    )
    return json.dumps(msgspec.to_builtins(sums, str_keys=True) | changes).encode()


HOSTILE_LINES = [
    b"{" * 100_000,
    b"[" * 100_000,
    b"\xff\xfe",
    b"x" * (1 << 20),
    b"null",
    line(v=2),
    line(v="1"),
    line(serial=-1),
    line(serial=1e999),
    line(until=-1),
    line(until=1e300),
    line(slots=10**30),
    line(busy=-5),
    line(busy=None),
    line(tasks=[]),
    line(tasks={"x" * 1000: {}}),
    line(tasks={"t.f": {"calls": -1}}),
    line(tasks={"t.f": {"run": {"999999": 1}}}),
    line(tasks={"t.f": {"run": {"x": 1}}}),
    line(tasks={"t.f": {"wait": {"5": -7}}}),
]


@pytest.mark.parametrize("hostile", HOSTILE_LINES, ids=range(len(HOSTILE_LINES)))
def test_lines_that_no_worker_writes(app, hostile):
    path = noted(app.store, GOOD)
    good = read(path)
    rewrite(path, hostile + b"\n" + good + hostile)
    stats = read_stats(app.store, 3600.0)
    assert stats.calls == 1
    assert [task.task for task in stats.tasks] == ["t.f"]


def test_what_a_newer_writer_adds_is_passed_over(app):
    path = noted(app.store, GOOD)
    rewrite(path, json.dumps(json.loads(read(path)) | {"colour": [1, 2]}).encode() + b"\n")
    assert read_stats(app.store, 3600.0).calls == 1


def test_a_file_of_any_length_is_read_to_its_limit(app):
    path = noted(app.store, HOSTILE)
    noted(app.store, GOOD)
    good = read(path)
    with open(path, "ab") as file:
        while file.tell() < MOST_SUMS:
            file.write(b"\n" * 65_536)
        file.write(good)
    os.truncate(path, HUGE)
    assert read_stats(app.store, 3600.0).calls == 2


def test_names_are_not_commands_for_the_terminal(app):
    path = noted(app.store, GOOD)
    rewrite(path, read(path).replace(b"t.f", b"\\u001b[2Jt"))
    root = ["--root", app.store.layout.root]
    for command in ("stats", "status"):
        assert "\x1b" not in CliRunner().invoke(command_line, [command, *root]).stdout


def test_every_truncation_and_every_bit_of_a_line(app):
    path = noted(app.store, GOOD)
    whole = read(path)
    for data in damaged(whole):
        rewrite(path, data)
        stats = read_stats(app.store, 3600.0)
        json.dumps(msgspec.to_builtins(stats))
        assert len(stats.workers) <= 1


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from([*Sums.__struct_fields__]), _JSON) | st.binary())
@settings(
    max_examples=examples(60),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_any_line(app, content):
    path = noted(app.store, GOOD)
    data = content if isinstance(content, bytes) else line(**content)
    rewrite(path, data + b"\n" + read(path))
    assert read_stats(app.store, 3600.0).workers[0].worker == GOOD
