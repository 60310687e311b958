"""Point 6: what bodies raise, and what cannot travel."""

from __future__ import annotations

import secrets
import sys
import traceback

import pytest
from support import files_under, wait_until

from fsqueue import RemoteError, SerializationError, State
from fsqueue.errors import DeserializationError
from integration import sample_tasks as sample


def raised(call, *arguments):
    try:
        call(*arguments)
    except BaseException as error:  # noqa: BLE001 - SystemExit too
        return error
    raise AssertionError("nothing was raised")


def printed(error):
    return "".join(traceback.format_exception(error))


def assert_worker_goes_on(app):
    assert app.direct_task(sample.add)(1) == 2


def test_type_arguments_and_notes(worked):
    error = raised(worked.direct_task(sample.fail_with_notes))
    assert type(error) is LookupError
    assert error.args == ("not there", 7)
    assert error.__notes__ == ["looked twice"]


def test_the_traceback_shows_the_line_of_the_body_and_of_the_call(worked):
    text = printed(raised(worked.direct_task(sample.divide), 1, 0))
    assert "return a / b  # the body's line" in text
    assert "in divide" in text
    assert "in raised" in text
    text = printed(raised(worked.task(sample.divide)(1, 0).get, 60))
    assert "return a / b  # the body's line" in text


async def test_the_traceback_of_an_async_body(worked):
    with pytest.raises(ZeroDivisionError) as caught:
        await worked.direct_task(sample.async_divide)(1, 0)
    assert "return a / b  # the async body's line" in printed(caught.value)


def test_cause(worked):
    error = raised(worked.direct_task(sample.fail_with_cause))
    assert type(error) is RuntimeError
    assert type(error.__cause__) is ZeroDivisionError
    assert error.__suppress_context__
    text = printed(error)
    assert "direct cause of the following exception" in text
    assert "# the body's line" in text


def test_context(worked):
    error = raised(worked.direct_task(sample.fail_in_handling))
    assert error.__cause__ is None
    assert type(error.__context__) is ZeroDivisionError
    assert "During handling of the above exception" in printed(error)


def test_own_init(worked):
    error = raised(worked.direct_task(sample.fail_own_init))
    assert type(error) is sample.OwnInitError
    assert (error.code, error.where, error.args) == (42, "here", ("42 at here",))


def test_exception_group(worked):
    error = raised(worked.direct_task(sample.fail_group))
    assert type(error) is ExceptionGroup
    assert error.message == "two"
    assert [type(member) for member in error.exceptions] == [ValueError, sample.OwnInitError]
    assert error.exceptions[1].code == 1


@pytest.mark.parametrize("status", [None, 0, 3, "a reason"])
def test_system_exit_is_the_failure_of_its_call(worked, status):
    error = raised(worked.direct_task(sample.leave), status)
    assert type(error) is SystemExit
    assert error.code == status
    assert_worker_goes_on(worked)


def test_keyboard_interrupt_is_the_failure_of_its_call(worked):
    invocation = worked.task(sample.interrupt)()
    error = raised(invocation.get, 60)
    assert type(error) is KeyboardInterrupt
    assert error.args == ("in the body",)
    assert invocation.status is State.FAILED
    assert_worker_goes_on(worked)


async def test_result_that_cannot_be_pickled(worked):
    error = raised(worked.direct_task(sample.unpicklable))
    assert type(error) is SerializationError
    assert "the result of integration.sample_tasks.unpicklable" in str(error)
    assert "lock" in str(error)
    assert_worker_goes_on(worked)


def test_result_that_cannot_be_unpickled(worked):
    invocation = worked.task(sample.explosive)()
    for _ in range(2):
        error = raised(invocation.get, 60)
        assert type(error) is DeserializationError
        assert "result" in str(error)
        assert "no unpickling here" in str(error)
    assert_worker_goes_on(worked)


def test_argument_that_cannot_be_unpickled(worked, spool):
    error = raised(worked.direct_task(sample.echo), sample.ExplodesWhenUnpickled())
    assert type(error) is DeserializationError
    assert "the arguments of integration.sample_tasks.echo" in str(error)
    assert "no unpickling here" in str(error)
    assert_worker_goes_on(worked)


def test_common_argument_that_cannot_be_unpickled(worked):
    group = worked.task(sample.scaled).parallelize(
        [(1,)], {"factor": sample.ExplodesWhenUnpickled()}
    )
    assert type(raised(group[0].get, 60)) is DeserializationError
    assert_worker_goes_on(worked)


def test_exception_that_cannot_be_pickled(worked):
    error = raised(worked.direct_task(sample.fail_holding_lock))
    assert type(error) is RemoteError
    assert error.type_name == "integration.sample_tasks.HoldsLockError"
    assert error.message == "cannot travel"
    assert "raise HoldsLockError" in error.traceback_text
    assert "raise HoldsLockError" in str(error)


def test_exception_whose_class_the_caller_cannot_import(worked):
    name = f"vanishing_{secrets.token_hex(4)}"
    try:
        invocation = worked.task(sample.fail_with_vanishing_class)(name)
        wait_until(invocation.done)
    finally:
        sys.modules.pop(name, None)
    error = raised(invocation.get, 60)
    assert type(error) is RemoteError
    assert error.type_name == f"{name}.GoneError"
    assert error.message == "of another world"
    assert "raise module.GoneError" in error.traceback_text
    assert_worker_goes_on(worked)


def test_failed_calls_are_kept_for_a_look(worked, spool):
    invocation = worked.task(sample.divide)(1, 0)
    raised(invocation.get, 60)
    wait_until(lambda: f"failed/{invocation.id}.1" in set(files_under(spool)))
