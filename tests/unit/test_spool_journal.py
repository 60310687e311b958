"""The journal of ended attempts, and the statistics from it."""

from __future__ import annotations

import errno
import json
import math
import os
import random
import stat

import pytest
from support import open_store

from fsqueue.spool.history import sketch
from fsqueue.spool.history.entries import Entry
from fsqueue.spool.history.journal import Journal, hour_of, start_of_hour
from fsqueue.spool.history.statistics import History, read_stats
from fsqueue.spool.worker.expiry import expire
from fsqueue.testing import NAME_VERBS, Fault, FaultyFilesystem

ME = "host-1-aaaaaa"
HOUR = 3600.0


class Clock(FaultyFilesystem):
    """Its steady clock moves only by `clock_offset`."""

    def monotonic(self) -> float:
        return self.clock_offset


@pytest.fixture
def fs():
    return Clock()


@pytest.fixture
def store(spool, fs):
    store = open_store(spool, fs)
    store.files.sync_clock()
    # To the middle of an hour, so that no test crosses into another one by chance.
    fs.clock_offset += HOUR * 1.5 - store.clock.now() % HOUR
    return store


@pytest.fixture
def journal(store):
    journal = Journal(store, slots=2)
    journal.begin()
    return journal


def entry(store, *, task="t.f", state="succeeded", wait=0.2, run=1.0, members=0, failed=None):
    return Entry(
        id="abcd-1",
        task=task,
        queue="q.default",
        attempt=1,
        state=state,
        started=store.clock.now(),
        wait=wait,
        run=run,
        members=members,
        failed=(state == "failed") if failed is None else failed,
    )


def lines(store, worker=ME, kind="jsonl"):
    folder = store.layout.journal_hour(hour_of(store.clock.now()))
    with open(f"{folder}/{worker}.{kind}", encoding="utf-8") as file:
        return [json.loads(line) for line in file.read().splitlines() if line]


# -- sketches ---------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.01, 0.5, 0.95, 0.99])
def test_percentiles_are_known_to_5_percent(share):
    dice = random.Random(7)
    values = sorted(dice.lognormvariate(-3, 2) for _ in range(5000))
    counts: dict[int, int] = {}
    for value in values:
        sketch.add(counts, {sketch.bucket_of(value): 1})
    exact = values[math.ceil(share * len(values)) - 1]
    assert sketch.percentile(counts, share) == pytest.approx(exact, rel=0.05)
    assert len(counts) < 200


@pytest.mark.parametrize("value", [0.0, -1.0, 1e-300, 1e300, math.inf])
def test_any_duration_has_a_bucket(value):
    assert sketch.FIRST_BUCKET <= sketch.bucket_of(value) <= sketch.LAST_BUCKET
    assert sketch.percentile({}, 0.5) is None


# -- writing ----------------------------------------------------------------------------------


def test_lines_are_written_together(store, fs, journal):
    for _ in range(500):
        journal.add(entry(store))
    fs.inject()
    journal.flush(ME)
    assert fs.count("write") == 2
    assert fs.count("append") <= 4
    assert fs.count(*NAME_VERBS) <= 1  # the folder of the hour
    assert len(lines(store)) == 500
    (sums,) = lines(store, kind="sums")
    assert sums["tasks"]["t.f"]["calls"] == 500
    path = store.layout.journal_lines(hour_of(store.clock.now()), ME)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600


def test_a_busy_worker_writes_every_ten_seconds_and_an_idle_one_never(store, fs, journal):
    fs.inject()
    for _ in range(100):
        fs.clock_offset += 2.0
        journal.flush(ME)
    assert fs.trace == []
    for _ in range(30):
        fs.clock_offset += 2.0
        journal.add(entry(store))
        journal.flush(ME)
    assert len(lines(store, kind="sums")) == 6
    assert len(lines(store)) == 26
    journal.close(ME)
    assert len(lines(store)) == 30


def test_without_a_time_to_live_nothing_is_written(store, fs):
    journal = Journal(store, slots=1, keep=False)
    journal.begin()
    journal.add(entry(store))
    journal.flush(ME)
    journal.close(ME)
    assert os.listdir(store.layout.journal_folder) == []


@pytest.mark.parametrize("verb", ["append", "write", "close"])
@pytest.mark.parametrize("lost", [False, True])
def test_sums_that_could_not_be_written_are_written_later_and_count_once(
    store, fs, journal, verb, lost
):
    journal.add(entry(store))
    journal.flush(ME)
    fs.clock_offset += 11
    journal.add(entry(store))
    make = Fault.lost_reply if lost else Fault.fail
    fs.inject(make(verb=verb, code=errno.EIO))
    with pytest.raises(OSError, match="Input/output error"):
        journal.flush(ME)
    fs.clock_offset += 11
    journal.flush(ME)
    assert read_stats(store, HOUR).calls == 2
    journal.close(ME)
    assert read_stats(store, HOUR).missing == 1


def test_each_hour_has_a_folder(store, fs, journal):
    for _ in range(3):
        journal.add(entry(store))
        journal.flush(ME)
        fs.clock_offset += HOUR
    hours = sorted(os.listdir(store.layout.journal_folder))
    assert len(hours) == 3
    assert [start_of_hour(hour) for hour in hours] == sorted(map(start_of_hour, hours))


def test_an_hours_file_has_an_end_and_the_sums_go_on(store, fs):
    journal = Journal(store, slots=2, most_lines=10_000)
    journal.begin()
    for _ in range(10):
        for _ in range(20):
            journal.add(entry(store))
        journal.flush(ME)
        fs.clock_offset += 11
    stats = read_stats(store, HOUR)
    assert stats.calls == 200
    assert stats.missing == 200 - len(lines(store))
    path = store.layout.journal_lines(hour_of(store.clock.now()), ME)
    assert os.path.getsize(path) <= 10_000


def test_memory_has_an_end_while_nothing_can_be_written(store, fs):
    journal = Journal(store, slots=2, most_waiting=10)
    journal.begin()
    for number in range(1000):
        journal.add(entry(store, task=f"t.f{number}"))
    assert journal._waiting == 10
    assert len(journal._tasks) == 201
    journal.flush(ME)
    stats = read_stats(store, HOUR)
    assert (stats.calls, stats.missing) == (1000, 990)
    assert stats.tasks[0].task == "(others)"


# -- reading ----------------------------------------------------------------------------------


def test_statistics_of_tasks(store, fs, journal):
    fs.clock_offset += 50
    for wait in (0.1, 0.1, 0.1, 4.0):
        journal.add(entry(store, wait=wait, run=2 * wait))
    journal.add(entry(store, state="failed"))
    journal.add(entry(store, state="retried", task="t.g"))
    journal.add(entry(store, state="lost", task="t.g"))
    journal.add(entry(store, task="t.batch", members=100, failed=7, run=2.0))
    journal.flush(ME)
    stats = read_stats(store, 300.0)
    assert (stats.calls, stats.failed, stats.retried, stats.lost) == (105, 8, 1, 1)
    assert stats.rate == pytest.approx(105 / 50)
    assert 300 <= stats.seconds < 360
    batch, plain, other = stats.tasks
    assert (batch.calls, batch.failed, batch.failure_rate) == (100, 7, 0.07)
    assert batch.run.p50 == pytest.approx(0.02, rel=0.05)
    assert (plain.calls, plain.failure_rate) == (5, 0.2)
    assert plain.wait.p50 == pytest.approx(0.1, rel=0.05)
    assert plain.wait.p99 == pytest.approx(4.0, rel=0.05)
    assert plain.run.p99 == pytest.approx(8.0, rel=0.05)
    assert (other.calls, other.failure_rate, other.wait.p50) == (0, None, None)


def test_busy_share_also_of_bodies_that_have_not_ended(store, fs, journal):
    fs.clock_offset += 50
    journal.hold(1)
    fs.clock_offset += 50
    journal.flush(ME)
    (worker,) = read_stats(store, HOUR, {ME}).workers
    assert (worker.slots, worker.calls, worker.alive) == (2, 0, True)
    assert worker.busy == pytest.approx(50 / 200)
    journal.hold(-1)
    journal.close(ME)
    fs.clock_offset += 100
    # Of one that has left, the time since then does not count.
    (worker,) = read_stats(store, HOUR, {ME}).workers
    assert worker.busy == pytest.approx(50 / 200)


def test_older_lines_are_outside_the_window(store, fs, journal):
    journal.add(entry(store))
    journal.flush(ME)
    fs.clock_offset += 400
    journal.add(entry(store))
    journal.flush(ME)
    assert read_stats(store, 300.0).calls == 1
    assert read_stats(store, 600.0).calls == 2
    history = History(store, 300.0)
    history.update()
    fs.clock_offset += 400
    history.update()
    assert (history.stats().calls, history.totals["t.f"].calls) == (0, 1)


def test_an_update_reads_only_new_lines_and_counts_them_once(store, fs, journal):
    history = History(store, HOUR)
    for number in range(1, 4):
        journal.add(entry(store))
        journal.flush(ME)
        history.update()
        history.update()
        assert history.stats().calls == number
        fs.clock_offset += 11


def test_a_partial_line_is_read_when_it_is_complete(store, fs, journal):
    journal.add(entry(store))
    journal.flush(ME)
    path = store.layout.journal_sums(hour_of(store.clock.now()), ME)
    with open(path, "rb") as file:
        whole = file.read()
    history = History(store, HOUR)
    for length in range(len(whole)):
        os.truncate(path, 0)
        with open(path, "wb") as file:
            file.write(whole[:length])
        history.update()
        assert history.stats().calls == 0
    with open(path, "wb") as file:
        file.write(whole)
    history.update()
    assert history.stats().calls == 1


def test_a_month_of_history_costs_nothing(store, fs, journal):
    """The window decides what is read, and the time to live decides what is kept."""

    def cost():
        fs.inject()
        assert read_stats(store, 300.0).calls == 30
        return fs.count()

    def work():
        for _ in range(30):
            journal.add(entry(store))
            journal.flush(ME)
            fs.clock_offset += 10
        journal.flush(ME)

    work()
    first = cost()
    kept = []
    for _ in range(60):
        fs.clock_offset += 12 * HOUR
        work()
        expire(store, result_ttl=HOUR, journal_ttl=24 * HOUR)
        kept.append(len(os.listdir(store.layout.journal_folder)))
    assert cost() == first
    assert set(kept[5:]) <= {2, 3}


# -- expiry -----------------------------------------------------------------------------------


def test_journals_expire_by_the_hour(store, fs, journal):
    journal.add(entry(store))
    journal.flush(ME)
    fs.clock_offset += 1.4 * HOUR
    assert expire(store, result_ttl=HOUR, journal_ttl=HOUR) == 0
    fs.clock_offset += 1.2 * HOUR
    assert expire(store, result_ttl=HOUR, journal_ttl=HOUR) == 2
    assert os.listdir(store.layout.journal_folder) == []


def test_folders_that_are_not_hours_stay(store):
    for name in ("notes", "2026-13-01T00", "2026-1-1T1", "2026-01-01T0 "):
        os.mkdir(store.layout.journal_hour(name))
    assert expire(store, result_ttl=0.0, journal_ttl=0.0) == 0
    assert len(os.listdir(store.layout.journal_folder)) == 4


def test_whoever_counts_keeps_no_hold_on_the_journals_of_others(spool):
    """An NFSv4 server would let it, and the worker could not append if this host died."""
    fs = FaultyFilesystem(remote=True)
    store = open_store(spool, fs)
    store.files.sync_clock()
    folder = store.layout.journal_hour(hour_of(store.clock.now()))
    fs.make_folders(folder)
    path = f"{folder}/worker-1-abcdef.sums"
    fs.create(path, [b"{}\n"])
    fs.inject()
    History(store, 300.0).update()
    assert [each.path for each in fs.trace if each.verb == "chmod"] == [path]
