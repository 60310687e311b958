"""What `status` says below its table of queues."""

import msgspec
import pytest
from support import open_store

from fsqueue.cli.overview import status_parts
from fsqueue.spool.admin.glance import Looks
from fsqueue.spool.admin.snapshot import QueueInfo


@pytest.fixture
def empty(tmp_path):
    store = open_store(tmp_path / "spool")
    store.files.sync_clock()
    return Looks(store, heartbeat=2.0, result_ttl=1e6).take()


def lines(glance, **queue):
    """The texts of a status in which one queue is, whose calls end twice a second."""
    usual = {"name": "lab.default", "due": 600, "delayed": 0, "workers": 2, "paused": False}
    found = QueueInfo(**usual | queue, oldest=9.0, next_due=None)
    recent = msgspec.structs.replace(
        glance.recent, seconds=340.0, calls=40, failed=1, rate=4.0, queues={"lab.default": 20}
    )
    snapshot = msgspec.structs.replace(glance.snapshot, queues=(found,))
    seen = msgspec.structs.replace(glance, snapshot=snapshot, recent=recent)
    return [each for each in status_parts(seen, 0.0) if isinstance(each, str)]


def test_status_says_when_a_queue_is_empty_at_the_rate_that_it_shows(empty):
    said = "600 due calls of lab.default will have ended in about 5m00s, at 2/s"
    assert said in lines(empty)
    assert f"~{said}" in lines(empty, exact=False)


@pytest.mark.parametrize("why", [{"workers": 0}, {"paused": True}, {"due": 3}, {"name": "x.idle"}])
def test_it_does_not_say_so_of_a_queue_that_nothing_empties(empty, why):
    assert not any("will have ended" in each for each in lines(empty, **why))


def test_status_says_where_to_look_after_failures(empty):
    assert any("failed: 1 (2.5%), see fsqueue failures" in each for each in lines(empty))
