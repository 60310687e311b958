"""Two operators retry one failed call at the same time."""

from __future__ import annotations

from retry_sweep import Stage
from support import open_store

from fsqueue.spool.admin import controls
from fsqueue.spool.format.states import State


def test_two_operators_at_once(folder):
    stage = Stage(f"{folder}/spool")
    (failed,) = controls.retryable(stage.store)
    call, payload = stage.store.calls.read(
        stage.store.layout.failed(failed.files[0]), failed.files[0]
    )
    other = open_store(stage.root)
    other.files.sync_clock()
    assert controls.retry_failed(stage.store, failed) == stage.new_id
    assert stage.run_all(State.SUCCEEDED) == 1
    # The other one had read the call before, and goes on now.
    controls._publish_again(other, call, stage.new_id, payload)
    assert stage.run_all(State.FAILED) == 1
    assert stage.state_of(stage.new_id) is State.SUCCEEDED, "the first outcome"
