"""Values and exceptions whose own code exits or interrupts: the caller is told, the slot stays."""

import pytest
from acceptance_harness import KINDS, Site

from fsqueue.errors import DeserializationError, RemoteError, SerializationError

RAISED = ["reduce", "own", "load", "interrupt", "str", "cause", "name", "note"]
# Its own text and notes are not needed to send it.
AS_ITSELF = {"str", "note"}
LOADED = {"load": "SystemExit", "interrupt": "KeyboardInterrupt"}


@pytest.fixture(scope="module", params=KINDS)
def odd(request, tmp_path_factory):
    site = Site(tmp_path_factory.mktemp("odd"))
    try:
        site.open()
        module = site.load("odd_values")
        site.worker(request.param, 1, app="odd_values:app").wait_for_start()
        module.slot = site.call(site.tasks.pid).result(60)
        module.site = site
        yield module
    finally:
        site.close()


def error_of(odd, function, *args):
    """The error of a call. The next call finds the slot as it was."""
    error = odd.site.call(function, *args).exception(60)
    assert odd.site.call(odd.site.tasks.pid).result(60) == odd.slot
    return error


@pytest.mark.parametrize("name", RAISED)
def test_an_exception_that_exits_while_it_is_sent_becomes_words(odd, name):
    kind = odd.ALL[name] if name in AS_ITSELF else RemoteError
    assert type(error_of(odd, odd.fail, name)) is kind
    assert type(error_of(odd, odd.fail_twice, name)) is (RemoteError if name == "note" else kind)


def test_the_other_exceptions_of_a_chain_arrive_as_themselves(odd):
    error = error_of(odd, odd.fail_with_cause, "reduce")
    assert (type(error), str(error)) == (ValueError, "outer")
    assert type(error.__cause__) is RemoteError
    assert (error.__cause__.type_name, error.__cause__.message) == (
        "odd_values.ReduceExits",
        "words",
    )


@pytest.mark.parametrize("name", ["reduce", "own"])
def test_a_result_that_exits_while_it_is_sent_is_an_error(odd, name):
    error = error_of(odd, odd.give, name)
    assert type(error) is SerializationError
    assert "in the result of odd_values.give raised" in str(error)


@pytest.mark.parametrize(("name", "raised"), LOADED.items())
def test_an_argument_that_exits_while_it_is_read_is_an_error(odd, name, raised):
    error = error_of(odd, odd.take, odd.ALL[name]())
    assert type(error) is DeserializationError
    assert "the arguments of odd_values.take" in str(error)
    assert raised in str(error)


def test_a_member_of_a_batch_that_exits_takes_no_other_with_it(odd):
    error = error_of(odd, odd.fail_together, ["reduce", "str", "own"])
    assert type(error) is RemoteError
