"""The pages name what is wrong, and only that: who is slow or bad, what failed, what was lost."""

from __future__ import annotations

import msgspec
import pytest
from monitor_harness import Shop, client_of, watch_of
from support import open_store
from test_pages import text_of

from fsqueue.monitor.attention import needs
from fsqueue.monitor.looks import WINDOWS
from fsqueue.spool.admin.failures import grouped
from fsqueue.spool.history import sketch
from fsqueue.spool.history.entries import Entry, Sums, TaskSums
from fsqueue.spool.history.journal import hour_of
from fsqueue.spool.store.lookup import cancel

HOUR = WINDOWS["1h"]


class Journals:
    """A spool with the journals of workers that have come and gone."""

    def __init__(self, root):
        self.root = str(root)
        self.store = open_store(root)
        self.store.files.sync_clock()
        self.now = self.store.clock.now()

    def worker(self, name, *, calls=0, failed=0, lost=0, seconds=1.0, left=True, task="t.f"):
        """What a worker has done a minute ago, in one line."""
        done = TaskSums(calls=calls, failed=failed, lost=lost)
        if calls:
            sketch.add(done.run, {sketch.bucket_of(seconds): calls})
        until = self.now - 60
        line = Sums(serial=1, began=until - 100, since=until - 100, until=until, slots=2, left=left,
                    tasks={task: done})  # fmt: skip
        self._write(self.store.layout.journal_sums, name, line, until)

    def attempt(self, worker, number, state, **more):
        """An attempt that ended a minute ago."""
        until = self.now - 60
        entry = Entry(id=f"abcd-{number}", task="t.f", queue="q", attempt=1, state=state,
                      started=until - 1, wait=0.0, run=1.0, **more)  # fmt: skip
        self._write(self.store.layout.journal_lines, worker, entry, until)

    def _write(self, path_of, worker, record, until):
        self.store.fs.make_folders(self.store.layout.journal_hour(hour_of(until)))
        data = msgspec.json.encode(record) + b"\n"
        self.store.files.append(path_of(hour_of(until), f"{worker}-1-aaaaaa"), data)

    def needs(self):
        return [f"{each.what} {each.more}".strip() for each in needs(self.look())]

    def look(self):
        return watch_of(self.root).look(HOUR)

    def seen(self, path):
        return text_of(client_of(self.root).get(path).text)


@pytest.fixture
def journals(tmp_path):
    return Journals(tmp_path / "spool")


def test_a_slow_worker_is_seen_after_few_calls_since_it_has_few(journals):
    journals.worker("fast", calls=300, seconds=4.0)
    journals.worker("slow", calls=24, seconds=24.0)
    assert "Slowest: slow-1-aaaaaa, whose calls take 5." in journals.seen("/workers")
    names = {each.worker: each.pace for each in journals.look().stats.workers}
    assert names["slow-1-aaaaaa"] > 4
    alive = [msgspec.structs.replace(each, alive=True) for each in journals.look().stats.workers]
    look = journals.look()
    (need,) = needs(look._replace(stats=msgspec.structs.replace(look.stats, workers=alive)))
    assert need.what == "slow-1-aaaaaa is slow:"
    assert "times as long as the same tasks on all workers" in need.more  # not: on the others


def test_calls_fail_most_on_the_worker_with_the_largest_share_not_the_busiest(journals):
    journals.worker("busy", calls=4_000, failed=60)
    journals.worker("calm", calls=400, failed=6)
    assert "fail most often" not in journals.seen("/workers")
    journals.worker("bad", calls=40, failed=10)
    text = journals.seen("/workers")
    assert "Calls fail most often on bad-1-aaaaaa: 10 of 40, 1.5 % on the others." in text


def test_reasons_are_counted_if_a_call_failed_for_them(journals):
    journals.worker("w", calls=3, failed=2)
    for number, kind in enumerate(("ValueError", "KeyError")):
        journals.attempt("w", number, "failed", failed=1, failure=kind, fp=f"0000000{number}")
    journals.attempt("w", 7, "retried", failure="OSError", fp="00000007", message="down")
    journals.attempt("w", 8, "cancelled", failure="CancelledError", fp="00000008")
    text = journals.seen("/failures")
    assert "2 calls failed in the last hour, for 2 reasons" in text
    assert "OSError down" in text
    assert "CancelledError" not in text
    assert [each.type for each in grouped(journals.look().failed)][2:] == ["OSError"]


def test_attempts_that_are_retried_are_no_failed_calls(journals):
    journals.worker("w")
    journals.attempt("w", 7, "retried", failure="OSError", fp="00000007")
    text = journals.seen("/failures")
    assert "No call failed in the last hour; 1 attempt failed and will be retried" in text


def test_a_worker_that_died_with_a_call_needs_a_look(journals):
    journals.worker("other", calls=10, lost=1)
    journals.worker("killed", left=False)
    (need,) = journals.needs()
    assert need == (
        "1 worker died without leaving: killed-1-aaaaaa. 1 attempt was lost with a worker or slot."
    )


def test_a_worker_that_died_with_no_call_does_not(journals):
    journals.worker("other", calls=10)
    journals.worker("killed", left=False)
    assert journals.needs() == []


@pytest.mark.parametrize(("failed", "said"), [(4, 0), (5, 1)])
def test_a_task_whose_few_calls_all_fail_needs_a_look(journals, failed, said):
    journals.worker("w", calls=failed, failed=failed)
    found = journals.needs()
    assert len(found) == said
    assert all(each.startswith("t.f fails: 5 of 5 calls in the last 15 min") for each in found)


def test_a_disk_is_called_full_only_if_it_is(journals):
    journals.worker("w", calls=1)
    look = journals.look()
    glance = msgspec.structs.replace(look.glance, space="results take 1 GB")
    texts = [f"{each.what} {each.more}" for each in needs(look._replace(used=0.1, glance=glance))]
    assert texts == ["Results will fill the disk before they expire: results take 1 GB"]
    texts = [each.what for each in needs(look._replace(used=1.0, glance=glance))]
    assert texts[0] == "100% of the disk is in use."
    assert len(texts) == 2


def test_the_page_of_a_dead_worker_offers_no_drain(journals):
    journals.worker("killed", left=False)
    text = journals.seen("/workers/killed-1-aaaaaa")
    assert "it was killed, or its host went down" in text
    assert "fsqueue drain" not in text


@pytest.mark.leaves_strays
def test_the_page_of_a_call_tells_no_time_that_it_does_not_know(tmp_path):
    shop = Shop(str(tmp_path / "spool"), 1)
    store = open_store(shop.root)
    store.files.sync_clock()
    call = shop.pending[0]
    text = text_of(client_of(shop.root).get(f"/calls/{call.id}").text)
    assert "the next one is number 1" in text
    assert cancel(store, call.id, None)
    text = text_of(client_of(shop.root).get(f"/calls/{call.id}").text)
    assert "Made by the run" in text
    assert "Why is it not running" not in text
    assert "/ ?" not in text
    assert "started" not in text
