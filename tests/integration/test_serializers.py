"""`serializer`: by setting and by option, and what is never unpickled."""

from __future__ import annotations

import json
import pickle
import re

import pytest
from msgspec import structs
from support import rewrite, wait_until

from fsqueue import ConfigError, FSQueue, RemoteError, SerializationError, State
from fsqueue.errors import DeserializationError, SpoolVersionError
from fsqueue.spool.format import envelope
from fsqueue.spool.format.records import Call, Outcome
from integration import sample_tasks
from integration.conftest import working


class ExplodesOnSight:
    def __reduce__(self):
        return exec, ("raise SystemExit('it was unpickled')",)


def reheaded(store, path, kind, payload=None, **changes):
    """Change the header of a file, and its payload, as whoever may write there can."""
    header, (data, _) = envelope.decode(store.files.read_file(path), kind, path)
    segments = [bytes(data) if payload is None else payload]
    if payload is not None and kind is Call:
        changes["segments"] = (len(payload),)
    rewrite(path, b"".join(envelope.encode(structs.replace(header, **changes), segments)))


def file_of(app, invocation):
    return invocation._pending_result._hint


def test_call_before_task_before_setting(make_app, monkeypatch):
    monkeypatch.setenv("FSQUEUE__SERIALIZER", "pickle")
    app = make_app()
    add = app.task(sample_tasks.add)
    assert add.serializer == "pickle"
    monkeypatch.setenv("FSQUEUE__TASK__SERIALIZER", "json")
    assert make_app().task(sample_tasks.add).serializer == "json"
    assert app.task(serializer="json")(sample_tasks.echo).serializer == "json"
    assert add.options(serializer="cloudpickle").serializer == "cloudpickle"
    with pytest.raises(ValueError, match="serializer = 'yaml', expected 'cloudpickle' or 'json'"):
        app.task(serializer="yaml")(sample_tasks.add)
    with pytest.raises(ConfigError, match="argument: serializer = 'yaml'"):
        FSQueue("x", serializer="yaml")


def test_files_of_a_json_task_are_text(make_app):
    app = make_app()
    task = app.task(serializer="json")(sample_tasks.echo)
    invocation = task({"name": "ä", "sizes": [1, 2.5]})
    with open(file_of(app, invocation), "rb") as file:
        *_, header, arguments, end = file.read().split(b"\n")
    assert json.loads(header)["codec"] == "json"
    assert json.loads(arguments) == [[{"name": "ä", "sizes": [1, 2.5]}], {}]
    assert end == b""
    with working(app):
        assert invocation.get(timeout=60) == {"name": "ä", "sizes": [1, 2.5]}
    *_, value, end = b"".join(app.store.outcomes.peek(invocation.id)).split(b"\n")
    assert json.loads(value) == {"name": "ä", "sizes": [1, 2.5]}


@pytest.mark.parametrize("serializer", ["pickle", "json"])
@pytest.mark.parametrize("size", [1, 3, "auto"])
def test_fan_outs(make_app, serializer, size):
    app = make_app(serializer=serializer)
    task = app.task(parallel_batch_size=size)(sample_tasks.length)
    with working(app):
        for text in ("abc", "x" * 40_000):  # in each file, and stored once
            group = task.parallelize([{"number": n} for n in range(7)], {"text": text})
            assert group.get(timeout=60) == [len(text) + n for n in range(7)]


def test_what_json_cannot_carry_fails_at_the_call_site_and_as_a_result(make_app):
    app = make_app(serializer="json")
    echo = app.task(sample_tasks.echo)
    with pytest.raises(SerializationError, match=r"positional argument 0 of type builtins.bytes"):
        echo(b"x")
    with pytest.raises(SerializationError, match="common arguments"):
        app.task(sample_tasks.length).parallelize([()], {"text": {1}})
    bad = app.task(sample_tasks.unpicklable)
    with working(app):
        assert echo((1, 2)).get(timeout=60) == [1, 2]
        with pytest.raises(SerializationError, match=r"the result of .* cannot be written as JSON"):
            bad().get(timeout=60)


def test_exceptions_of_a_json_task(make_app):
    app = make_app(serializer="json")
    divide, own = app.task(sample_tasks.divide), app.task(sample_tasks.fail_own_init)
    with working(app):
        with pytest.raises(ZeroDivisionError, match="division by zero") as caught:
            divide(1, 0).get(timeout=60)
        assert caught.traceback[-1].name == "divide"
        with pytest.raises(RemoteError, match="42 at here"):
            own().get(timeout=60)
        group = app.task(parallel_batch_size=3)(sample_tasks.odd_fails).parallelize(
            [(n,) for n in range(3)]
        )
        assert group[2].get(timeout=60) == 2
        with pytest.raises(ValueError, match="odd"):
            group[1].get(timeout=60)


def test_a_json_task_unpickles_nothing(make_app):
    app, forger = make_app(), make_app()
    task = app.task(serializer="json")(sample_tasks.echo)
    pickled = forger.task(sample_tasks.echo)(ExplodesOnSight())
    swapped = task(1)
    bomb = pickle.dumps((((ExplodesOnSight(),)), {}))
    reheaded(app.store, file_of(app, swapped), Call, bomb)
    short = task(1)
    reheaded(app.store, file_of(app, short), Call, b"[1]")
    with working(app):
        with pytest.raises(DeserializationError, match="are not a pair of a list and a dict"):
            short.get(timeout=60)
        with pytest.raises(DeserializationError, match=r"is a pickle \(cloudpickle\) and is not"):
            pickled.get(timeout=60)
        with pytest.raises(DeserializationError, match="should be JSON"):
            swapped.get(timeout=60)


@pytest.mark.parametrize("codec", ["json", "cloudpickle", "pickle"])
@pytest.mark.parametrize("state", [State.SUCCEEDED, State.FAILED])
def test_nor_does_its_caller(make_app, codec, state):
    app = make_app()
    invocation = app.task(serializer="json")(sample_tasks.echo)(1)
    with working(app):
        wait_until(invocation.done)
    bomb = pickle.dumps(ExplodesOnSight())
    path = app.store.layout.done(invocation.id)
    reheaded(app.store, path, Outcome, bomb, codec=codec, state=state)
    with pytest.raises((DeserializationError, RemoteError)) as caught:
        invocation.get(timeout=60)
    assert "it was unpickled" not in str(caught.value)


def test_nor_does_an_application_of_json_for_a_call_it_only_knows_by_id(make_app):
    made = make_app().task(sample_tasks.echo)(1)
    other = make_app(serializer="json")
    worker = make_app()
    worker.task(sample_tasks.echo)
    with working(worker):
        assert made.get(timeout=60) == 1
    with pytest.raises(DeserializationError, match="Set the same one for callers and workers"):
        other.invocation(made.id).get(timeout=60)


def test_any_client_reads_an_outcome_as_its_header_says(make_app):
    app = make_app()
    made = app.task(serializer="json")(sample_tasks.echo)([1])
    with working(app):
        wait_until(made.done)
    assert make_app().invocation(made.id).get(timeout=60) == [1]


def test_a_call_of_another_python_says_so(make_app):
    app = make_app()
    task = app.task(sample_tasks.run_it)
    old = task(lambda: 1)
    reheaded(app.store, file_of(app, old), Call, python="2.7")
    with working(app):
        with pytest.raises(DeserializationError, match=r"Python 2.7 has written it, and Python 3"):
            old.get(timeout=60)
        assert task(lambda: 1).get(timeout=60) == 1


def test_a_call_in_a_newer_form_is_left_alone(make_app, caplog):
    app = make_app()
    newer = app.task(sample_tasks.echo)(1)
    reheaded(app.store, file_of(app, newer), Call, codec="avro")
    with working(app):
        wait_until(lambda: "is written as 'avro', which this fsqueue does not read" in caplog.text)
        assert app.task(sample_tasks.echo)(2).get(timeout=60) == 2
        assert newer.status is State.PENDING
    assert re.search(r"left alone: .*Use one version of fsqueue", caplog.text)


def test_an_outcome_in_a_newer_form_is_a_clear_error(make_app):
    app = make_app()
    invocation = app.task(sample_tasks.echo)(1)
    with working(app):
        wait_until(invocation.done)
    reheaded(app.store, app.store.layout.done(invocation.id), Outcome, codec="avro")
    with pytest.raises(SpoolVersionError, match="'avro'"):
        invocation.get(timeout=60)


def test_inline_json_gives_what_a_worker_would_and_pickles_are_not_copied(make_app):
    app = make_app(dev_mode_force_sync_tasks=True)
    echo, value = app.task(sample_tasks.echo), (1, object())
    assert echo(value).result is value
    plain = echo.options(serializer="json")
    assert plain((1, 2)).result == [1, 2]
    with pytest.raises(SerializationError, match=r"builtins.object"):
        assert plain(value).result
    direct = app.direct_task(serializer="json")(sample_tasks.echo)
    assert direct((1, 2)) == [1, 2]
