"""What operators ask of a spool that holds spoiled and foreign files."""

from __future__ import annotations

import os

import pytest
from hostile_files import (
    SECRET,
    SPOILS,
    echo,
    finished,
    named,
    pending_file,
    read,
    rewrite,
    write_record,
)
from integration.conftest import working

from fsqueue import State
from fsqueue.spool.admin.census import take_snapshot
from fsqueue.spool.admin.listing import call_details, list_calls

HOSTILE = "hostile-1-aaaaaa"


def broken_text(path: str, _: object) -> None:
    """A header that is no UTF-8."""
    rewrite(path, read(path).replace(b'"spool"', b'"sp\xff\xfel"'))


@pytest.mark.leaves_strays
@pytest.mark.parametrize("spoil", [*SPOILS, broken_text], ids=named)
def test_lists_of_a_spool_with_spoiled_files(app, outside, tmp_path, spoil):
    store, layout = app.store, app.store.layout
    done, kept = (finished(app, str(tmp_path / name)).id for name in ("done", "kept"))
    store.outcomes.collect(kept, keep=True)
    pending, running, failed, healthy = (app.task(echo)("value").id for _ in range(4))
    os.mkdir(layout.running(HOSTILE))
    os.rename(pending_file(app, running), f"{layout.running(HOSTILE)}/{running}.1")
    os.rename(pending_file(app, failed), f"{layout.failed_folder}/{failed}.1")
    for path in (
        layout.done(done),
        layout.kept(kept),
        pending_file(app, pending),
        f"{layout.running(HOSTILE)}/{running}.1",
        f"{layout.failed_folder}/{failed}.1",
    ):
        spoil(path, outside)
    for path in (layout.worker_beat(HOSTILE), layout.worker_record(HOSTILE)):
        write_record(app, HOSTILE)
        rewrite(path, read(layout.worker_record(HOSTILE)))
        spoil(path, outside)
    seen = list(list_calls(store))
    assert {healthy, pending} <= {each.id for each in seen if each.state is State.PENDING}
    assert SECRET not in repr(seen)
    census = take_snapshot(store, heartbeat=1.0)
    assert SECRET not in repr(census)
    assert call_details(store, healthy).call.id == healthy


def test_a_large_call_can_be_looked_at(app):
    value = bytes(3 << 20)
    invocation = app.task(echo)(value)
    assert call_details(app.store, invocation.id).arguments.buffers == [value]
    with working(app):
        assert invocation.get(60) == value
