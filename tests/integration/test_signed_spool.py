"""A spool with a signing key, attacked by somebody who may write there and has no key (P8)."""

from __future__ import annotations

import hashlib
import logging
import os
import pickle
import re

import msgspec
import pytest
from support import files_under, open_store, rewrite, wait_until

from fsqueue import State
from fsqueue.errors import EnvelopeError, InvocationCorruptError, SpoolError
from fsqueue.spool.disk.access import read_key
from fsqueue.spool.format import envelope
from fsqueue.spool.format.records import Call, Outcome
from integration import sample_tasks as sample
from integration.conftest import working

KEY, OTHER_KEY = b"this is the key of the spool", b"this is somebody else's key"


class Trap:
    """Leaves a mark where it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (self.mark,)


@pytest.fixture
def mark(tmp_path):
    """A folder that is there once a forged value was unpickled."""
    yield str(tmp_path / "unpickled")
    assert not os.path.exists(tmp_path / "unpickled")


@pytest.fixture
def make_key(tmp_path):
    def make(content=KEY):
        path = tmp_path / f"key-{hashlib.sha256(content).hexdigest()[:8]}"
        path.touch(mode=0o600)
        path.write_bytes(content)
        return path

    return make


@pytest.fixture
def app(make_app, make_key):
    return make_app(signing_key_file=make_key(), heartbeat=0.2, lease=1.0)


def pending_file(app, invocation_id):
    root = app.store.layout.root
    (found,) = [name for name in files_under(root) if name.endswith(f"/{invocation_id}.1")]
    return os.path.join(root, found)


def read(path):
    with open(path, "rb") as file:
        return file.read()


def forged(data, kind, payload, key=b""):
    """A file like `data` with another payload, sealed as well as one can."""
    header = msgspec.json.decode(data.split(b"\n", 2)[1], type=kind)
    if kind is Call:
        header = msgspec.structs.replace(header, segments=(len(payload),))
    return b"".join(envelope.encode(header, [payload], key))


# -- calls --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key_of", "message"),
    [
        (lambda make_key: b"", "is not signed, and this spool has a signing key"),
        (lambda make_key: read_key(make_key(OTHER_KEY)), "signed with another key"),
        (lambda make_key: KEY, "signed with another key"),
    ],
    ids=["unsigned", "by another key", "by the text of the key"],
)
def test_a_forged_call_is_refused_and_not_run(app, make_key, mark, key_of, message):
    task = app.task(sample.echo)
    invocation = task("genuine")
    path = pending_file(app, invocation.id)
    payload = pickle.dumps(((Trap(mark),), {}))
    rewrite(path, forged(read(path), Call, payload, key_of(make_key)))
    with working(app):
        with pytest.raises(InvocationCorruptError, match=message) as caught:
            invocation.get(60)
        assert f"quarantine/{invocation.id}.1" in str(caught.value)
        assert task("after").get(60) == "after"


def signed_elsewhere(app, make_app, spool, spool_roots):
    """An app of the same key on another spool."""
    root = f"{spool}-other"
    spool_roots.append(root)
    return make_app(root=root, signing_key_file=app.conf.signing_key_file)


def test_a_call_replayed_from_another_spool_of_the_same_key(
    app, make_app, spool, spool_roots, mark
):
    other = signed_elsewhere(app, make_app, spool, spool_roots)
    foreign = other.task(sample.echo)(Trap(mark))
    invocation = app.task(sample.echo)("genuine")
    data = read(pending_file(other, foreign.id))
    for name in (invocation.id, foreign.id):
        path = pending_file(app, invocation.id)
        rewrite(os.path.join(os.path.dirname(path), f"{name}.1"), data)
    with working(app):
        with pytest.raises(InvocationCorruptError, match="belongs to another spool"):
            invocation.get(60)
        wait_until(lambda: app.store.outcomes.exists(foreign.id))
        assert app.task(sample.echo)("after").get(60) == "after"
    foreign.abandon()


def test_a_call_under_the_name_of_another(app, mark):
    task = app.task(sample.echo)
    first, second = task("first"), task("second")
    rewrite(pending_file(app, first.id), read(pending_file(app, second.id)))
    with working(app):
        with pytest.raises(InvocationCorruptError, match=f"holds another invocation .{second.id}"):
            first.get(60)
        assert second.get(60) == "second"


@pytest.mark.parametrize("name", ["4", "99", "5r1"])
def test_a_call_renamed_to_an_attempt_that_it_cannot_have(app, name):
    """One that would be its last, or beyond: 3 deaths are too many."""
    invocation = app.task(sample.echo)("value")
    path = pending_file(app, invocation.id)
    os.rename(path, f"{path[:-2]}.{name}")
    with working(app), pytest.raises(InvocationCorruptError, match="attempted more than 3"):
        invocation.get(60)


@pytest.mark.parametrize("name", ["0", "01", "1r1", "-1", "1.1"])
def test_a_call_renamed_to_an_attempt_that_is_none(app, name):
    invocation = app.task(sample.echo)("value")
    path = pending_file(app, invocation.id)
    os.rename(path, f"{path[:-2]}.{name}")
    with working(app):
        wait_until(lambda: os.listdir(app.store.layout.quarantine_folder))
        assert app.task(sample.echo)("after").get(60) == "after"
    assert not app.store.outcomes.exists(invocation.id)


def test_an_outcome_presented_as_a_call(app, mark):
    task = app.task(sample.echo)
    with working(app):
        done = task("done")
        wait_until(done.done)
    invocation = task("value")
    rewrite(pending_file(app, invocation.id), read(app.store.layout.done(done.id)))
    with working(app), pytest.raises(InvocationCorruptError, match="holds a 'outcome'"):
        invocation.get(60)


# -- outcomes -----------------------------------------------------------------------------------


def test_a_call_presented_as_an_outcome(app, mark):
    invocation = app.task(sample.echo)("value")
    os.rename(pending_file(app, invocation.id), app.store.layout.done(invocation.id))
    with pytest.raises(EnvelopeError, match="holds a 'call', not a 'outcome'"):
        invocation.get(60)


@pytest.mark.parametrize("signed", [False, True])
def test_a_forged_outcome_is_refused_and_not_unpickled(app, make_key, mark, signed):
    task = app.task(sample.echo)
    with working(app):
        invocation = task("genuine")
        wait_until(invocation.done)
        path = app.store.layout.done(invocation.id)
        key = read_key(make_key(OTHER_KEY)) if signed else b""
        rewrite(path, forged(read(path), Outcome, pickle.dumps(Trap(mark)), key))
        message = "signed with another key" if signed else "is not signed"
        for _ in range(2):
            with pytest.raises(EnvelopeError, match=message):
                invocation.get(60)
        assert task("after").get(60) == "after"
    assert os.path.exists(app.store.layout.quarantined(invocation.id))


def test_an_outcome_for_another_invocation_or_client_or_spool(
    app, make_app, spool, spool_roots, make_key
):
    elsewhere = signed_elsewhere(app, make_app, spool, spool_roots)
    neighbour = make_app(signing_key_file=app.conf.signing_key_file)
    with working(app), working(elsewhere):
        sources = [each.task(sample.echo)("theirs") for each in (app, neighbour, elsewhere)]
        for source in sources:
            wait_until(source.done)
        mine = [app.task(sample.echo)("mine") for _ in sources]
        for invocation in mine:
            wait_until(invocation.done)
    stores = (app.store, neighbour.store, elsewhere.store)
    for invocation, source, store in zip(mine, sources, stores, strict=True):
        rewrite(app.store.layout.done(invocation.id), read(store.layout.done(source.id)))
        with pytest.raises(EnvelopeError, match="the outcome of another invocation"):
            invocation.get(60)


def test_a_forged_outcome_that_is_there_first(app, gate, mark, caplog):
    """Its caller, who is waiting, hears of it; and so does whoever reads the worker's log."""
    caplog.set_level(logging.WARNING)
    opened, name = gate()
    task = app.task(sample.behind_gate)
    with working(app):
        invocation = task(name, "genuine")
        wait_until(lambda: invocation.status is State.RUNNING)
        with pytest.raises(TimeoutError):
            invocation.get(0.05)
        rewrite(app.store.layout.done(invocation.id), b"garbage of an attacker")
        wait_until(lambda: os.path.exists(app.store.layout.done(invocation.id)))
        opened.set()
        said = f"{invocation.id}.1 has ended, but its call had an outcome already"
        wait_until(lambda: said in caplog.text)
        with pytest.raises(EnvelopeError, match="does not begin like a file of fsqueue"):
            invocation.get(60)


def test_a_caller_that_is_waiting_hears_of_a_forged_outcome_at_once(app, gate, mark):
    opened, name = gate()
    with working(app):
        invocation = app.task(sample.behind_gate)(name, "genuine")
        wait_until(lambda: invocation.status is State.RUNNING)
        rewrite(f"{app.store.layout.tmp_folder}/forged", b"garbage of an attacker")
        os.rename(f"{app.store.layout.tmp_folder}/forged", app.store.layout.done(invocation.id))
        with pytest.raises(EnvelopeError, match=re.escape("make the call again")):
            invocation.get(60)
        opened.set()


def test_what_is_common_to_a_fan_out_is_signed_too(app, mark):
    group = app.task(sample.length).parallelize([()], common_args={"text": "x" * 100_000})
    (name,) = os.listdir(app.store.layout.blobs_folder)
    payload = pickle.dumps({"text": Trap(mark)})
    unsigned, chunks = envelope.seal("blob", [payload], b"", [])
    for digest in (name, unsigned):
        rewrite(app.store.layout.blob(digest), b"".join(chunks))
    with working(app), pytest.raises(InvocationCorruptError, match="is not signed"):
        group.get(timeout=60)


# -- the spool's own record ---------------------------------------------------------------------


def test_the_record_of_the_spool_cannot_be_forged(app, make_app, spool, spool_roots):
    """Neither to do without a key nor to be another spool of the same key."""
    key, store = read_key(app.conf.signing_key_file), app.store
    path, whole = store.layout.info, read(store.layout.info)
    for content in (
        b'{"format":1,"id":"%s","key":""}' % store.files.info.id.encode(),
        b'{"format":1,"id":"%s"}' % store.files.info.id.encode(),
        whole.replace(store.files.info.id.encode(), b"another"),
    ):
        rewrite(path, content)
        with pytest.raises(SpoolError, match="sign"):
            open_store(store.layout.root, key=key)
    rewrite(path, whole)


# -- what a key cannot prevent ------------------------------------------------------------------


def test_a_key_cannot_prevent_that_a_call_is_removed_or_held_back(app):
    task = app.task(sample.echo)
    removed, held = task("removed"), task("held")
    os.unlink(pending_file(app, removed.id))
    path, hidden = pending_file(app, held.id), f"{app.store.layout.root}/hidden"
    os.rename(path, hidden)
    with working(app):
        for invocation in (removed, held):
            with pytest.raises(TimeoutError):
                invocation.get(0.1)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.rename(hidden, path)
        assert held.get(60) == "held"


def test_a_key_cannot_prevent_that_a_call_is_replayed_under_its_own_name(app, tmp_path, gate):
    opened, name = gate()
    opened.set()
    runs = tmp_path / "runs"
    invocation = app.task(sample.behind_gate)(name, "ran", str(runs))
    path = pending_file(app, invocation.id)
    data = read(path)
    with working(app):
        assert invocation.get(60) == "ran"
        os.makedirs(os.path.dirname(path), exist_ok=True)
        rewrite(path, data)
        wait_until(lambda: runs.read_text() == "ran\nran\n")
        assert invocation.get(60) == "ran"


def test_a_key_cannot_prevent_that_deaths_are_made_up_within_the_limit(app):
    """The number of the attempt is in the name alone: a requeue is one rename."""
    invocation = app.task(sample.echo)("value")
    path = pending_file(app, invocation.id)
    os.rename(path, f"{path[:-2]}.3")
    with working(app):
        assert invocation.get(60) == "value"


def test_a_key_cannot_prevent_that_a_call_is_made_to_fail(app):
    """Garbage under its name: the worker itself signs the failure."""
    invocation = app.task(sample.echo)("value")
    rewrite(f"{pending_file(app, invocation.id)[:-2]}.2", b"garbage")
    os.unlink(pending_file(app, invocation.id))
    with working(app), pytest.raises(InvocationCorruptError):
        invocation.get(60)


def test_a_key_cannot_prevent_reading(app):
    invocation = app.task(sample.echo)("plain text for everybody")
    assert b"plain text for everybody" in read(pending_file(app, invocation.id))
