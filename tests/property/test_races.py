"""Many claimants at once: each call has one."""

from __future__ import annotations

import itertools
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from dying import start_child, status_of
from support import open_store
from sweep import ARGUMENTS, CLIENT, QUEUE, call_of, walk, worker_of

from fsqueue.spool.features.deduplication import Key
from fsqueue.spool.worker.backlog.folder import FolderBacklog

pytestmark = pytest.mark.concurrent

if TYPE_CHECKING:
    from fsqueue.spool.store.store import Store

CROWD = 300


def publish_many(store: Store) -> list[str]:
    store.files.sync_clock()
    ids = [f"{CLIENT}-{number}" for number in range(CROWD)]
    for invocation_id in ids:
        store.publish(call_of(store, invocation_id), [ARGUMENTS])
    return ids


def claim_all(root: str) -> list[str]:
    store = open_store(root)
    worker = worker_of(store)
    backlog = FolderBacklog(store, QUEUE)
    mine = []
    while (origin := backlog.next()) is not None:
        claim = worker.claim(origin)
        if claim is not None:
            mine.append(claim.name.invocation_id)
    worker._lock.release()
    return mine


def test_threads_that_race_never_share_a_claim(folder):
    ids = publish_many(open_store(folder))
    with ThreadPoolExecutor(6) as pool:
        claimed = list(pool.map(claim_all, [folder] * 6))
    assert Counter(itertools.chain(*claimed)) == Counter(ids)
    names = [name for _, _, names in os.walk(f"{folder}/running") for name in names]
    assert sorted(names) == sorted(f"{invocation_id}.1" for invocation_id in ids)


def test_processes_that_race_never_share_a_claim(folder):
    ids = publish_many(open_store(f"{folder}/spool"))
    readable, writable = os.pipe()

    def race(number: int) -> None:
        os.close(writable)
        os.read(readable, 1)  # until the parent closes its end: all at once
        with open(f"{folder}/claimed-{number}", "w", encoding="ascii") as file:
            file.write("\n".join(claim_all(f"{folder}/spool")))

    children = [start_child(lambda number=number: race(number)) for number in range(3)]
    os.close(writable)
    os.close(readable)
    assert [status_of(child) for child in children] == [0, 0, 0]
    claimed = []
    for number in range(3):
        with open(f"{folder}/claimed-{number}", encoding="ascii") as file:
            claimed += file.read().split()
    assert Counter(claimed) == Counter(ids)


PUBLISHERS, TIMES = 4, 100


def test_processes_that_publish_under_one_key_have_one_call_pending(folder):
    """Again and again, as somebody claims what is pending."""
    root, key = f"{folder}/spool", Key("0" * 32)
    open_store(root)

    def publish(number: int) -> None:
        store = open_store(root)
        store.files.sync_clock()
        made = []
        for serial in range(TIMES):
            call = call_of(store, f"client000{number}-{serial}")
            if store.deduplication.publish(key, call, [ARGUMENTS]).mine:
                made.append(call.id)
        with open(f"{folder}/x{number}", "w", encoding="ascii") as file:
            file.write("\n".join(made))
        os.rename(f"{folder}/x{number}", f"{folder}/made-{number}")

    children = [start_child(lambda number=number: publish(number)) for number in range(PUBLISHERS)]
    claimed: list[str] = []
    ended = False
    while not ended:
        ended = len([name for name in os.listdir(folder) if name.startswith("made")]) == PUBLISHERS
        paths = walk(f"{root}/pending")[0]
        assert len(paths) <= 1, "nobody else claims, so they were pending together"
        for path in paths:
            os.unlink(f"{root}/pending/{path}")
            claimed.append(os.path.basename(path).removesuffix(".1"))
    assert [status_of(child) for child in children] == [0] * PUBLISHERS
    made = "\n".join(
        Path(f"{folder}/made-{number}").read_text("ascii") for number in range(PUBLISHERS)
    )
    assert Counter(made.split()) == Counter(claimed)
    assert walk(f"{root}/tmp")[0] == []
