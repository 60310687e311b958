"""Answers on their way to a disk without room (P3, P4): what waits, and what is given up."""

from __future__ import annotations

import errno

import pytest
from sweep import ID, Stage

from fsqueue.errors import StorageError
from fsqueue.runner.attempt.answers import Answer
from fsqueue.runner.attempt.context import Body, Execution, WorkerContext
from fsqueue.runner.attempt.publication import PATIENCE, Publication
from fsqueue.spool.format.states import State
from fsqueue.testing import Fault

LARGE = bytes(1 << 21)


@pytest.fixture
def stage(spool):
    stage = Stage(spool)
    stage.take()
    yield stage
    stage.fs.heal()
    stage.close()
    stage.forsake()


def publication(stage, data):
    context = WorkerContext(
        store=stage.store,
        worker=lambda: stage.worker,
        resolve=lambda _: Body(print),
        app_id="t",
        exclusive=False,
    )
    execution = Execution(context, stage.claim, stage.call)
    return Publication(execution, Answer(State.SUCCEEDED, [data]))


def outcome(stage):
    """State, and the failure's type if there is one; None without an outcome."""
    data = stage.healthy.outcomes.peek(ID)
    if data is None:
        return None
    found, _ = stage.healthy.outcomes.read(ID, data)
    return found.state, found.failure and found.failure.type


@pytest.mark.leaves_strays
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_result_waits_for_room_and_is_given_up_when_only_others_have_some(stage, code):
    publish = publication(stage, LARGE)
    full = [Fault.fail(code, at=None, verb=verb) for verb in ("write", "symlink")]
    stage.inject(*full)
    for _ in range(3):
        with pytest.raises(StorageError, match=r"a file of 2\.0 MiB does not fit"):
            publish()
    stage.fs.clock_offset += PATIENCE + 1
    with pytest.raises(StorageError):  # of the small failure, which is tried from now on
        publish()
    assert outcome(stage) is None
    stage.fs.heal()
    publish()
    assert outcome(stage) == (State.FAILED, "ResultTooLargeError")
    assert stage.places() == []


@pytest.mark.leaves_strays
def test_a_result_that_fits_in_time_is_published(stage):
    publish = publication(stage, LARGE)
    stage.inject(Fault.fail(errno.ENOSPC, at=1, verb="write"))
    with pytest.raises(StorageError):
        publish()
    stage.fs.clock_offset += PATIENCE - 1
    publish()
    assert outcome(stage) == (State.SUCCEEDED, None)


@pytest.mark.leaves_strays
@pytest.mark.parametrize("code", [errno.EFBIG, errno.E2BIG, errno.EINVAL, errno.EOVERFLOW])
@pytest.mark.parametrize("verb", ["create", "write", "close"])
def test_a_result_that_the_filesystem_refuses_for_its_size_is_given_up_at_once(stage, code, verb):
    stage.inject(Fault.fail(code, at=1, verb=verb))
    publication(stage, LARGE)()
    assert outcome(stage) == (State.FAILED, "ResultTooLargeError")
    assert [path for path in stage.files() if path.startswith("tmp/")] == []


@pytest.mark.leaves_strays
@pytest.mark.parametrize("code", [errno.EIO, errno.ESTALE, errno.EACCES, errno.EROFS])
def test_other_errors_are_raised_for_another_attempt_however_long_it_takes(stage, code):
    publish = publication(stage, LARGE)
    stage.inject(Fault.fail(code, at=None, verb="create"))
    for _ in range(3):
        with pytest.raises(OSError) as caught:
            publish()
        assert caught.value.errno == code
        stage.fs.clock_offset += PATIENCE
    stage.fs.heal()
    publish()
    assert outcome(stage) == (State.SUCCEEDED, None)
