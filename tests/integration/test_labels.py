"""Labels of calls: how they are made, where they are shown, and what must not go wrong."""

from __future__ import annotations

import contextlib
import json
import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner
from support import wait_until

from fsqueue.calls.labels import label_of_batch
from fsqueue.cli.main import command_line
from fsqueue.common.logs import JsonFormatter, TextFormatter
from fsqueue.spool.admin.listing import call_details, list_calls
from fsqueue.spool.format.records import Call, Outcome
from integration import sample_tasks
from integration.conftest import working

HOSTILE = "\x1b[2J\n2026-01-01 00:00:00,000 ERROR forged\u202e"


class Unformattable:
    """A value whose format fails, in a way that no library expects."""

    def __format__(self, _):
        raise RuntimeError("no text")


class Counting:
    """A value that counts how often it is formatted."""

    formatted = 0

    def __format__(self, _):
        self.formatted += 1
        return ""


def label(app, invocation):
    """The label in the header of a pending call."""
    return call_details(app.store, invocation.id.partition(":")[0]).call.label


@pytest.mark.parametrize(
    ("template", "args", "kwargs", "expected"),
    [
        ("a={a} b={b}", (1,), {}, "a=1 b=1"),
        ("{a:.2f} {{x}}", (), {"a": 0.5, "b": 2}, "0.50 {x}"),
        ("{a[0]}/{a[0].real}", ([3, 4],), {}, "3/3"),
        ("{missing}", (1,), {}, ""),
        ("{a.missing}", (1,), {}, ""),
        ("{a:x}", ("no number",), {}, ""),
        ("{a}", ("ü" * 100,), {}, "ü" * 80),
        ("{a}", ("\ud800",), {}, "\\ud800"),
        ("", (1,), {}, ""),
    ],
)
def test_a_label_is_made_from_the_arguments(app, template, args, kwargs, expected):
    invocation = app.task(sample_tasks.add, label=template)(*args, **kwargs)
    assert label(app, invocation) == expected
    assert invocation.cancel()


def test_a_label_of_a_value_that_cannot_be_formatted_is_empty(app):
    invocation = app.task(sample_tasks.echo, label="value={value}")(Unformattable())
    assert label(app, invocation) == ""
    assert invocation.cancel()


@pytest.mark.parametrize(
    "template",
    ["{a", "a}", "{a!r:{b", "{a[}", "{a!q}", "{}", "{0}", "{a.}", "{a!r:d}"],
)
def test_a_template_that_can_never_be_formatted_is_refused(app, template):
    with pytest.raises(ValueError, match=r"label = .*Write parameters as '{name}'"):
        app.task(sample_tasks.add, label=template)
    with pytest.raises(ValueError, match="label"):
        app.task(sample_tasks.add).options(label=template)


def test_each_call_of_a_fan_out_has_its_own(app):
    task = app.task(sample_tasks.add, label="{a}+{b}")
    group = task.parallelize([(1,), (2,)], {"b": 5})
    assert [label(app, each) for each in group] == ["1+5", "2+5"]
    assert group.cancel() == 2


def test_a_batch_shows_the_label_of_its_first_call_and_how_many_there_are(app):
    task = app.task(sample_tasks.add, label="a={a}", parallel_batch_size=3)
    group = task.parallelize([(1,), (2,), (3,), (4,)])
    assert [label(app, each) for each in group] == ["a=1 (+2)"] * 3 + ["a=4"]
    group.cancel()
    assert label_of_batch(["same", "same"]) == "same"
    assert label_of_batch(["x" * 80, "y"]) == "x" * 75 + " (+1)"
    assert label_of_batch(["", ""]) == ""


@pytest.mark.concurrent
def test_a_call_of_a_direct_task_has_one(app):
    direct = app.direct_task(sample_tasks.echo, label="v={value}")
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(direct, 3)
        wait_until(lambda: [each.label for each in list_calls(app.store)] == ["v=3"])
        with working(app):
            assert answer.result(60) == 3


def test_inline_calls_format_nothing(make_app):
    app = make_app(dev_mode_force_sync_tasks=True)
    value = Counting()
    assert app.task(sample_tasks.echo, label="{value}")(value).result is value
    assert value.formatted == 0


def shown(app, root, *arguments):
    done = CliRunner().invoke(command_line, [*arguments, "--root", root])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_it_is_shown_before_and_after_the_end(app, spool):
    """By `list` and `show`, as text and as JSON; control characters are escaped."""
    invocation = app.task(sample_tasks.echo, label="v={value}")(HOSTILE)
    whole = f"v={HOSTILE}"
    for _ in range(2):
        for command in (("list",), ("show", invocation.id)):
            assert json_label(app, spool, command) == whole
            text = shown(app, spool, *command)
            assert "v=\\x1b[2J\\n2026" in text
            assert "\x1b" not in text
            assert "\nforged" not in text
        if not invocation.done():
            with working(app):
                wait_until(invocation.done)
    assert [each.label for each in list_calls(app.store)] == [whole]
    invocation.get(timeout=60)


def json_label(app, root, command):
    found = json.loads(shown(app, root, *command, "--json"))
    return (found["calls"][0] if "calls" in found else found)["label"]


def test_failures_have_it_in_the_journal_and_in_statistics(app, spool):
    task = app.task(sample_tasks.odd_fails, label="x={x}")
    with working(app):
        for x in (0, 3, 2):
            with pytest.raises(ValueError, match="odd") if x % 2 else contextlib.nullcontext():
                task(x).get(timeout=60)
    lines = [json.loads(line) for line in _journal(app)]
    assert sorted(each.get("label", "") for each in lines) == ["", "", "x=3"]
    (stats,) = json.loads(shown(app, spool, "stats", "--json"))["tasks"]
    assert stats["failed_label"] == "x=3"
    assert "x=3" in shown(app, spool, "stats")


def test_a_retried_attempt_has_it_in_the_journal(app, tmp_path):
    task = app.task(
        sample_tasks.fail_before,
        label="n={times}",
        retry_for=ConnectionError,
        retry_delay=0.0,
    )
    with working(app):
        task(str(tmp_path / "ran"), 1).get(timeout=60)
    lines = [json.loads(line) for line in _journal(app)]
    assert sorted((each["state"], each.get("label", "")) for each in lines) == [
        ("retried", "n=1"),
        ("succeeded", ""),
    ]


def test_logs_have_it(app, caplog):
    with caplog.at_level(logging.INFO, "fsqueue.calls"), working(app):
        app.task(sample_tasks.echo, label="v={value}")("a\x1bb").get(timeout=60)
    texts = [TextFormatter("%(message)s").format(each) for each in caplog.records]
    assert sum("(v=a\\x1bb) has" in text for text in texts) == 2, "started, succeeded"
    documents = [json.loads(JsonFormatter().format(each)) for each in caplog.records]
    assert [each["label"] for each in documents if "label" in each] == ["v=a\x1bb"] * 2


@pytest.mark.parametrize("header", [Call, Outcome])
def test_an_older_reader_passes_over_it(app, header):
    known = [each for each in msgspec.structs.fields(header) if each.required]
    older = msgspec.defstruct(header.__name__, [(each.name, each.type) for each in known])
    invocation = app.task(sample_tasks.echo, label="v={value}")(1)
    path = call_details(app.store, invocation.id).path
    if header is Outcome:
        with working(app):
            wait_until(invocation.done)
        path = app.store.layout.done(invocation.id)
    line = Path(path).read_bytes().split(b"\n")[1]
    assert json.loads(line)["label"] == "v=1"
    assert msgspec.json.decode(line, type=older).id == invocation.id
    invocation.cancel()


def test_a_call_without_the_option_has_no_field_for_it(app):
    invocation = app.task(sample_tasks.echo)(1)
    assert b"label" not in Path(call_details(app.store, invocation.id).path).read_bytes()
    assert invocation.cancel()


def _journal(app):
    for path in sorted(Path(app.store.layout.root, "journal").rglob("*.jsonl")):
        yield from path.read_text("utf-8").splitlines()
