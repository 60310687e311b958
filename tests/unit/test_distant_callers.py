"""Callers on other hosts, which are known by their locks only."""

from __future__ import annotations

import contextlib
import os

import pytest
from spool_pair import QUEUE, opened_pair
from support import publish_call

from fsqueue.spool.disk.identity import this_process
from fsqueue.spool.disk.syscalls import take_lock
from fsqueue.spool.worker.distant_callers import DistantCallers
from fsqueue.spool.worker.expiry import remove_gone_clients
from fsqueue.testing import FaultyFilesystem

LEASE = 30.0


@pytest.fixture
def pair(spool):
    with opened_pair(spool) as pair:
        pair.client._process = this_process()._replace(boot="another host")
        yield pair


@pytest.fixture
def observer(pair):
    return DistantCallers(pair.store, lease=LEASE)


def die(pair) -> None:
    """Release the lock, as the kernel does for a process that is killed."""
    pair.client._lock.release()


def pass_time(pair, seconds: float) -> None:
    pair.fs.clock_offset += seconds


def state_of(pair, receipt) -> str:
    data = pair.store.outcomes.peek(receipt.invocation_id)
    return "" if data is None else pair.store.outcomes.read(receipt.invocation_id, data)[0].state


def test_the_pending_direct_calls_are_cancelled_after_the_lease(pair, observer):
    direct, kept = pair.publish(), pair.publish(keep=True)
    observer.round()
    die(pair)
    observer.round()
    pass_time(pair, LEASE - 1)
    observer.round()
    assert state_of(pair, direct) == "", "it is too early"
    pass_time(pair, 2)
    observer.round()
    assert state_of(pair, direct) == "cancelled"
    assert not pair.fs.exists(direct.path)
    assert pair.fs.exists(kept.path), "others may ask for its result"
    assert pair.worker.claim(kept.path) is not None


def test_calls_of_a_caller_that_holds_its_lock_are_never_touched(pair, observer):
    receipt = pair.publish()
    for _ in range(5):
        observer.round()
        pass_time(pair, 10 * LEASE)
    assert pair.worker.claim(receipt.path) is not None


def test_a_lock_that_was_never_seen_held_proves_nothing(pair, observer):
    """This is the case where locks do not exclude others."""
    receipt = pair.publish()
    die(pair)
    for _ in range(5):
        observer.round()
        pass_time(pair, 10 * LEASE)
    assert pair.worker.claim(receipt.path) is not None


def test_a_call_that_another_one_waits_for_is_left(pair, observer):
    receipt = pair.publish()
    child = publish_call(
        pair.client,
        pair.client.new_id(),
        *("t.f", QUEUE, [b"x"]),
        max_attempts=3,
        keep=True,
        after=(receipt.invocation_id,),
        parent=receipt.invocation_id,
    )
    observer.round()
    die(pair)
    for _ in range(3):
        observer.round()
        pass_time(pair, LEASE)
    assert pair.fs.exists(receipt.path)
    assert pair.store.endings.cancel_pending(receipt.path)
    assert pair.worker.claim(child.path) is not None


def test_an_error_of_the_shared_directory_leaves_the_rest_to_the_next_round(pair, observer):
    receipts = [pair.publish() for _ in range(3)]
    observer.round()
    die(pair)
    observer.round()
    pass_time(pair, LEASE)
    from fsqueue.testing import Fault

    pair.fs.inject(Fault.fail(5, verb="rename"))
    with pytest.raises(OSError, match="Input/output"):
        observer.round()
    pair.fs.inject()
    observer.round()
    assert [state_of(pair, receipt) for receipt in receipts] == ["cancelled"] * 3


# -- callers that leave in the meantime -----------------------------------------------------------


class Leaving(FaultyFilesystem):
    """A caller leaves just before somebody tries its lock."""

    leave = staticmethod(lambda: None)

    def lock(self, path, *, existing=False):
        self.leave()
        return super().lock(path, existing=existing)


@pytest.mark.parametrize("duty", ["observe", "expire"])
def test_the_lock_of_a_caller_that_has_just_left_is_not_made_again(spool, duty):
    fs = Leaving()
    with opened_pair(spool, fs) as pair:
        receipt = pair.publish()
        assert pair.complete(pair.worker.claim(receipt.path))
        assert pair.store.outcomes.collect(receipt.invocation_id, keep=False)
        fs.leave = pair.client.close
        if duty == "observe":
            DistantCallers(pair.store, lease=LEASE).round()
        else:
            remove_gone_clients(pair.store)
        fs.leave = Leaving.leave
        assert [name for name in os.listdir(f"{spool}/clients") if name.endswith(".lock")] == []


def test_a_lock_that_is_removed_before_it_is_taken_is_not_made_again(tmp_path):
    lock = tmp_path / "lock"
    lock.touch()

    class Vanishing(os.PathLike):
        """A path whose file is removed once it has been opened."""

        def __fspath__(self):
            if lock.exists() and os.stat(lock).st_ino in opened():
                lock.unlink()
            return str(lock)

    with pytest.raises(FileNotFoundError):
        take_lock(Vanishing(), 0o600, existing=True)
    assert not lock.exists()


def opened() -> set[int]:
    """The numbers of the files that this process has open."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            found.add(os.stat(f"/proc/self/fd/{name}").st_ino)
    return found
