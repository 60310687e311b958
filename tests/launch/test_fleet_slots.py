"""Slots of a fleet, while another process takes and frees them."""

from __future__ import annotations

import itertools
import os
import threading

import pytest
from property.dying import InterruptibleFilesystem

from fsqueue.spool.disk.filesystem import Filesystem
from fsqueue.spool.fleets.records import Member
from fsqueue.spool.fleets.slots import Slots
from fsqueue.testing import Fault, FaultyFilesystem


def slots_in(filesystem, folder):
    return Slots(filesystem, folder, filesystem.make_folders)


def test_a_job_has_one_slot_and_the_first_free_one_is_taken(folder):
    slots = slots_in(Filesystem(), f"{folder}/slots")
    assert slots.take("aaaa", 2, 3) == [Member("aaaa", 1), Member("aaaa", 2)]
    assert slots.take("bbbb", 2, 3) == [Member("bbbb", 1)]
    slots.free(Member("aaaa", 2))
    assert slots.take("cccc", 2, 3) == [Member("cccc", 1)]
    assert slots.taken() == {
        1: Member("aaaa", 1),
        2: Member("cccc", 1),
        3: Member("bbbb", 1),
    }
    assert [name for name in os.listdir(slots.folder) if name.startswith(".")] == []


@pytest.mark.parametrize("most", [1, 2, 3])
def test_two_that_take_slots_at_once_never_share_one(folder, most):
    """One takes all it can before some filesystem call of the other."""
    for number in itertools.count(1):
        fs = InterruptibleFilesystem()
        one = slots_in(fs, f"{folder}/{number}")
        other = slots_in(Filesystem(), one.folder)
        members: list[Member] = []
        fs.interrupt(number, lambda o=other, m=members: m.extend(o.take("bbbb", 2, most)))
        members += one.take("aaaa", 2, most)
        assert len(set(members)) == len(members) <= most
        assert set(other.taken().values()) == set(members)
        if fs._action is not None:
            break


def test_one_that_frees_late_does_not_free_the_slot_of_a_later_job(folder):
    for number in itertools.count(1):
        fs = InterruptibleFilesystem()
        slow = slots_in(fs, f"{folder}/{number}")
        other = slots_in(Filesystem(), f"{folder}/{number}")
        other.take("aaaa", 1, 1)

        def overtake(other: Slots = other) -> None:
            other.free(Member("aaaa", 1))
            other.take("bbbb", 1, 1)

        fs.inject()
        fs.interrupt(number, overtake)
        slow.free(Member("aaaa", 1))
        if fs._action is not None:
            break
        assert other.taken() == {1: Member("bbbb", 1)}


@pytest.mark.parametrize("verb", ["mkdir", "rename", "rmdir", "listdir"])
def test_a_lost_reply_takes_and_frees_no_other_slot(folder, verb):
    fs = FaultyFilesystem()
    slots = slots_in(fs, f"{folder}/slots")
    slots.take("aaaa", 1, 3)
    fs.inject(Fault.lost_reply(verb=verb))
    try:
        slots.take("bbbb", 1, 3)
        slots.free(Member("aaaa", 1))
    except OSError:
        fs.inject()
        slots.free(Member("aaaa", 1))
    assert set(slots.taken().values()) <= {Member("bbbb", 1)}


def test_many_threads_take_as_many_slots_as_there_are(folder):
    found: list[Member] = []
    barrier = threading.Barrier(8)

    def take(token: str) -> None:
        slots = slots_in(Filesystem(), f"{folder}/slots")
        barrier.wait()
        found.extend(slots.take(token, 4, 10))

    threads = [threading.Thread(target=take, args=(letter * 4,)) for letter in "abcdefgh"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    taken = slots_in(Filesystem(), f"{folder}/slots").taken()
    assert len(taken) == len(found) == 10
    assert set(taken.values()) == set(found)
