"""Every file of calls and outcomes, spoiled in every way: nobody hangs, dies or is fooled (P8)."""

from __future__ import annotations

import itertools
import logging
import os
import re

import pytest
from hostile_files import (
    FILES,
    LARGE_FILES,
    NO_FILES,
    SECRET,
    SPOILS,
    Trap,
    blob,
    done,
    echo,
    kept,
    large_blob,
    large_done,
    large_pending,
    named,
    pending,
    pending_file,
    read,
    rewrite,
    running_at_a_dead_worker,
    set_trap,
    truncated,
    write_record,
)
from integration.conftest import working
from support import files_under, upgrade, wait_until

from fsqueue.errors import (
    EnvelopeError,
    FSQueueError,
    InvocationCorruptError,
    SpoolError,
    SpoolVersionError,
)
from fsqueue.spool.format.names import AttemptName

ERRORS = {
    pending: InvocationCorruptError,
    running_at_a_dead_worker: InvocationCorruptError,
    done: EnvelopeError,
    kept: EnvelopeError,
    blob: InvocationCorruptError,
    large_pending: InvocationCorruptError,
    large_done: EnvelopeError,
    large_blob: InvocationCorruptError,
}
PAIRS = list(itertools.product(FILES, SPOILS))
SOME = [truncated, *NO_FILES]
# Only the client that collects an outcome may set it aside: another reader leaves it.
SET_ASIDE = {pending, running_at_a_dead_worker, done, blob, *LARGE_FILES}


@pytest.fixture
def mark(tmp_path):
    """A file that is there once a value was unpickled."""
    yield str(tmp_path / "unpickled")
    assert not os.path.lexists(tmp_path / "unpickled")


def raised(ask) -> Exception:
    with pytest.raises(FSQueueError) as caught:
        ask()
    return caught.value


def reasons(app) -> list[str]:
    folder = app.store.layout.quarantine_folder
    return [read(f"{folder}/{n}").decode() for n in os.listdir(folder) if n.endswith(".reason")]


def assert_nothing_half_written(app) -> None:
    assert not [name for name in files_under(app.store.layout.root) if name.startswith("tmp/")]


@pytest.mark.parametrize(("kind", "spoil"), PAIRS, ids=named)
def test_a_spoiled_file_is_a_clear_error_and_harms_nobody(app, kind, spoil, outside, mark, caplog):
    with kind(app, mark) as case:
        spoil(case.path, outside)
        with working(app):
            error = raised(case.ask)
            assert app.task(echo)("after").get(60) == "after"
    assert type(error) is ERRORS[kind]
    assert case.path in str(error) or os.path.basename(case.path) in str(error)
    assert SECRET not in str(error) + caplog.text + "".join(reasons(app))
    if kind in SET_ASIDE:
        (reason,) = reasons(app)
        assert reason.endswith("\n")
        place = re.search(r"[Tt]he file lies in (\S+);", str(error))
        assert os.path.lexists(place[1])
        assert not os.path.lexists(case.path) or kind in {done, large_done}
    else:
        assert os.path.lexists(case.path)
    assert_nothing_half_written(app)


@pytest.mark.parametrize("spoil", SOME, ids=named)
def test_an_outcome_that_is_spoiled_is_the_same_error_for_everybody_and_again(
    app, spoil, outside, mark
):
    with done(app, mark) as case:
        spoil(case.path, outside)
        first = raised(case.ask)
        assert str(raised(case.ask)) == str(first)
        again = app.invocation(os.path.basename(case.path))
        assert str(raised(lambda: again.get(60))) == str(first)
        assert again.status.finished


@pytest.mark.parametrize("spoil", SOME, ids=named)
async def test_a_direct_call_whose_outcome_is_spoiled(app, spoil, outside, mark):
    with working(app):
        invocation = app.task(set_trap).submit((mark,), {}, keep=False)
        path = app.store.layout.done(invocation.id)
        wait_until(lambda: os.path.lexists(path))
    spoil(path, outside)
    with pytest.raises(EnvelopeError, match=re.escape(f"quarantine/{invocation.id}")):
        await invocation.async_result()
    invocation.abandon()
    assert not app.store.fs.exists(path)


@pytest.mark.parametrize("spoil", SOME, ids=named)
def test_an_outcome_that_is_spoiled_and_that_nobody_wants(app, spoil, outside, mark):
    with working(app):
        invocation = app.task(set_trap).submit((mark,), {}, keep=False)
        path = app.store.layout.done(invocation.id)
        wait_until(lambda: os.path.lexists(path))
        spoil(path, outside)
        invocation.abandon()
        assert app.direct_task(echo)("after") == "after"
        app.close()  # does not fail either


# -- every byte and every bit ---------------------------------------------------------------------


def damage_in_bulk(app, mark, damages) -> None:
    """Publish a call for each damage, and let one worker find them all."""
    task = app.task(echo)
    calls = [task(Trap(mark)) for _ in damages]
    for call, damage in zip(calls, damages, strict=True):
        path = pending_file(app, call.id)
        rewrite(path, damage(read(path)))
    with working(app):
        for call in calls:
            with pytest.raises(InvocationCorruptError, match=call.id):
                call.get(60)
        assert task("after").get(60) == "after"
    assert len(reasons(app)) == len(calls)


def test_a_call_truncated_at_every_seventh_byte_meets_a_worker(app, mark):
    whole = app.task(echo)(Trap(mark))
    size = len(read(pending_file(app, whole.id)))
    whole.abandon()
    lengths = range(0, size - 8, 7)
    damage_in_bulk(app, mark, [lambda data, n=n: data[:n] for n in lengths])


def flipped(data: bytes, bit: int) -> bytes:
    damaged = bytearray(data)
    damaged[bit // 8] ^= 1 << bit % 8
    return bytes(damaged)


@pytest.mark.parametrize(("key", "step"), [(b"", 1), (b"k" * 64, 7)], ids=["unsigned", "signed"])
def test_every_truncation_and_every_bit_of_a_call_and_of_an_outcome(app, key, step):
    """Read as a worker and a client read them, from the file."""
    store = app.store
    store.files.key = key
    with working(app):
        invocation = app.task(echo)("value")
        wait_until(invocation.done)
    outcome = store.layout.done(invocation.id)
    call = pending_file(app, app.task(echo)("value").id)
    name = AttemptName.parse(os.path.basename(call))
    readers = {
        call: lambda: store.calls.read(call, name),
        outcome: lambda: store.outcomes.read(invocation.id, store.files.read_file(outcome)),
    }
    for path, look in readers.items():
        whole = read(path)
        look()
        for damaged in (
            *(whole[:length] for length in range(len(whole))),
            *(flipped(whole, bit) for bit in range(0, 8 * len(whole), step)),
        ):
            rewrite(path, damaged)
            with pytest.raises((EnvelopeError, SpoolVersionError)):
                look()
        rewrite(path, whole)
    assert invocation.get(60) == "value"


@pytest.mark.parametrize("upgraded", [False, True])
def test_the_only_damage_that_looks_like_another_version_is_to_the_version(app, upgraded):
    """And only in a spool that may hold files of another version."""
    whole = read(pending_file(app, app.task(echo)("value").id))
    place = whole.index(b"1")
    if upgraded:
        upgrade(app.store.layout.root)
    versions = [bit for bit in range(8 * 60) if flipped(whole, bit)[:place].startswith(b"fsqueue ")]
    others = []
    for bit in versions:
        try:
            app.store.outcomes.read("abcdefgh-1", [flipped(whole, bit)])
        except SpoolVersionError:
            others.append(bit // 8)
        except EnvelopeError:
            pass
    assert set(others) == ({place} if upgraded else set())


# -- other versions -------------------------------------------------------------------------------


def of_another_version(app, path: str) -> bytes:
    upgrade(app.store.layout.root)
    data = b"fsqueue 99 whatever that may be: another first line\n" + read(path)
    rewrite(path, data)
    return data


def test_a_call_of_another_version_at_a_dead_worker_is_left_alone_and_told_of_once(
    app, mark, caplog
):
    task = app.task(echo)
    invocation = task(Trap(mark))
    folder = app.store.layout.running("dead-1-bbbbbb")
    os.mkdir(folder)
    path = f"{folder}/{invocation.id}.1"
    os.rename(pending_file(app, invocation.id), path)
    data = of_another_version(app, path)
    write_record(app, "dead-1-bbbbbb")
    caplog.set_level(logging.WARNING)

    def told() -> int:
        return sum("format 99" in each.getMessage() for each in caplog.records)

    with working(app):
        wait_until(told)
        stamp = app.store.layout.upkeep_stamp
        wait_until(lambda: os.path.lexists(stamp))
        for number in range(30):
            assert task(number).get(60) == number
    assert told() == 1
    assert read(path) == data
    os.unlink(path)
    os.rmdir(folder)
    os.unlink(app.store.layout.worker_record("dead-1-bbbbbb"))


@pytest.mark.parametrize("kind", [done, kept], ids=named)
def test_an_outcome_of_another_version_is_said_to_be_one(app, kind, mark):
    with kind(app, mark) as case:
        of_another_version(app, case.path)
        for _ in range(2):
            with pytest.raises(SpoolVersionError, match="format 99"):
                case.ask()
    assert reasons(app) == []


# -- what must go on working ----------------------------------------------------------------------


def test_a_large_value_there_and_back(app):
    value = bytes(3 << 20)
    with working(app):
        assert app.direct_task(echo)(value) == value
        group = app.task(echo).parallelize([()], common_args={"value": value})
        assert group.get(timeout=60) == [value]


def test_damage_to_a_large_file_is_found(app, mark, outside):
    invocation = app.task(echo)([bytes(3 << 20), Trap(mark)])
    path = pending_file(app, invocation.id)
    with open(path, "r+b") as file:
        file.seek(2 << 20)
        file.write(b"!")
    with working(app), pytest.raises(InvocationCorruptError, match="digest"):
        invocation.get(60)


@pytest.mark.parametrize("spoil", SOME, ids=named)
def test_a_member_of_a_batch_tells_of_its_whole_file(app, spoil, outside, mark):
    task = app.task(parallel_batch_size=3)(echo)
    group = task.parallelize([(Trap(mark),) for _ in range(3)])
    spoil(pending_file(app, group[0].id.partition(":")[0]), outside)
    with working(app):
        for member in group:
            with pytest.raises(SpoolError) as caught:
                _corrupt_as_spool_error(member)
            assert "quarantine" in str(caught.value)


def _corrupt_as_spool_error(member) -> None:
    try:
        member.get(60)
    except InvocationCorruptError as error:
        raise SpoolError(str(error)) from error
