"""A program whose standard library gevent has patched, as a caller."""

import sys

import pytest

pytest.importorskip("gevent")


@pytest.mark.parametrize("watch", ["events", "poll"])
def test_greenlets_wait_without_blocking_each_other(site, watch):
    site.worker("thread", 2).wait_for_start()
    caller = site.start(sys.executable, "under_gevent.py", FSQUEUE__WATCH=watch)
    assert caller.wait() == 0, caller.text()
    assert caller.output().strip() == "all"
