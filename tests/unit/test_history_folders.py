"""The history reads the newest hours first, a few files at a time, and in the end has all."""

from __future__ import annotations

import msgspec
from spool_pair import opened_pair

from fsqueue.spool.history.entries import Sums, TaskSums
from fsqueue.spool.history.folders import JournalFolders
from fsqueue.spool.history.journal import hour_of
from fsqueue.spool.history.statistics import History

HOURS = 5
HOUR = 3600.0


def write_hours(store, workers=("a", "b")):
    """One line of sums of each worker for each of the last hours."""
    now = store.clock.now()
    for worker in workers:
        for serial in range(1, HOURS + 1):
            until = now - (HOURS - serial) * HOUR
            line = Sums(
                serial=serial,
                began=now - 9 * HOUR,
                since=until - 10,
                until=until,
                slots=1,
                tasks={"t": TaskSums(calls=10**serial)},
            )
            path = store.layout.journal_sums(hour_of(until), worker)
            store.files.append(path, msgspec.json.encode(line) + b"\n")


def test_a_bounded_history_has_all_hours_in_the_end(spool):
    with opened_pair(spool) as pair:
        write_hours(pair.store)
        history = History(pair.store, 8 * HOUR, most_files=2)
        history.update()
        first = history.stats()
        assert (first.calls, first.unread) == (2 * 10**HOURS, 2 * (HOURS - 1))
        for _ in range(HOURS):
            history.update()
        assert history.stats().calls == 2 * sum(10**each for each in range(1, HOURS + 1))
        assert history.stats().unread == 0
        assert history.stats(window=1.5 * HOUR).calls == 2 * (10**HOURS + 10 ** (HOURS - 1))


def test_the_folder_of_an_hour_that_is_over_is_listed_once(spool):
    with opened_pair(spool) as pair:
        write_hours(pair.store)
        folders = JournalFolders(pair.store)
        since = pair.store.clock.now() - 8 * HOUR
        folders.update(since)
        assert len(folders.paths(since, ".sums")) == 2 * HOURS
        pair.fs.inject()
        folders.update(since)
        again = [each.path for each in pair.fs.trace if each.verb == "listdir"]
        assert len(again) <= 3  # the journal's folder, this hour's, and the last one's at its start
        assert len(folders.paths(since, ".sums")) == 2 * HOURS


def test_few_folders_are_listed_each_time_the_latest_first(spool):
    with opened_pair(spool) as pair:
        write_hours(pair.store)
        folders = JournalFolders(pair.store, most=1)
        since = pair.store.clock.now() - 8 * HOUR
        folders.update(since)
        few = folders.paths(since, ".sums")
        assert 2 <= len(few) < 2 * HOURS
        for _ in range(HOURS):
            folders.update(since)
        assert folders.paths(since, ".sums")[: len(few)] == few
        assert len(folders.paths(since, ".sums")) == 2 * HOURS
