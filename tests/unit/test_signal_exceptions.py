"""Exceptions that signal handlers raise while a value or an exception is encoded or decoded."""

from __future__ import annotations

import pickle
import signal
import sys
import threading
from functools import partial

import pytest

from fsqueue.codec import decode, decode_exception, encode, encode_exception
from fsqueue.common.interruptions import of_signal_handler
from fsqueue.errors import DeserializationError, RemoteError, SerializationError
from fsqueue.runner.attempt.answers import Answer


class Strikes:
    """Its own code sends a signal to this process."""

    def __reduce__(self):
        return signal.raise_signal, (signal.SIGALRM,)


class StrikesOnTheWay:
    def __reduce__(self):
        signal.raise_signal(signal.SIGALRM)
        return Strikes, ()


class ErrorThatStrikes(Exception):
    def __reduce__(self):
        signal.raise_signal(signal.SIGALRM)
        return ErrorThatStrikes, ()


class Handlers:
    """The kinds of functions that can be signal handlers."""

    def __init__(self, kind: type[BaseException]) -> None:
        self.kind = kind

    def bound(self, _number, _frame):
        raise self.kind

    def any_arguments(self, *_):
        self.deeper()

    def deeper(self):
        raise self.kind

    def more(self, _extra, _number, _frame):
        raise self.kind

    def __call__(self, _number, _frame=None):
        raise self.kind


KINDS = [TimeoutError, SystemExit, KeyboardInterrupt, BaseException]
MAKERS = {
    "bound": lambda all_: all_.bound,
    "any_arguments": lambda all_: all_.any_arguments,
    "partial": lambda all_: partial(all_.more, 1),
    "object": lambda all_: all_,
}


@pytest.fixture(params=MAKERS)
def handled(request):
    def handle(kind):
        signal.signal(signal.SIGALRM, MAKERS[request.param](Handlers(kind)))

    former = signal.getsignal(signal.SIGALRM)
    yield handle
    signal.signal(signal.SIGALRM, former)


@pytest.mark.parametrize("kind", KINDS)
def test_an_exception_of_a_signal_handler_is_not_taken_for_that_of_a_value(handled, kind):
    handled(kind)
    data = pickle.dumps(Strikes())
    for action in (
        lambda: decode(data, "the value"),
        lambda: encode(StrikesOnTheWay(), "the value"),
        lambda: encode_exception(ErrorThatStrikes(), held=BaseException),
        lambda: Answer.of_error(ErrorThatStrikes(), "cloudpickle"),
    ):
        with pytest.raises(kind) as found:
            action()
        assert type(found.value) is kind
        assert of_signal_handler(found.value)


def test_an_exception_of_a_signal_handler_is_not_taken_for_that_of_an_exception_read(handled):
    signal.signal(signal.SIGALRM, lambda *_: None)
    data = encode_exception(ErrorThatLoadsStriking())
    handled(TimeoutError)
    with pytest.raises(TimeoutError):
        decode_exception(data)


class ErrorThatLoadsStriking(Exception):
    def __setstate__(self, state):
        signal.raise_signal(signal.SIGALRM)

    def __reduce__(self):
        return ErrorThatLoadsStriking, (), {"any": 1}


class Raises:
    """Its own code raises an exception."""

    def __init__(self, kind):
        self.kind = kind

    def __reduce__(self):
        return raise_one, (self.kind,)


def raise_one(kind):
    raise kind


@pytest.mark.parametrize("kind", [TimeoutError, SystemExit])
def test_what_a_value_raises_is_an_error_of_the_value(kind):
    with pytest.raises(DeserializationError) as found:
        decode(pickle.dumps(Raises(kind)), "the value")
    assert not of_signal_handler(found.value.__cause__)


def test_what_a_value_raises_while_it_is_sent_is_an_error_of_the_value():
    with pytest.raises(SerializationError):
        encode(threading.Lock(), "the value")
    assert type(decode_exception(encode_exception(Unsendable(), held=BaseException))) is RemoteError


class Unsendable(Exception):
    def __reduce__(self):
        raise SystemExit


def test_ctrl_c_is_the_users_where_python_handles_it_and_otherwise_the_values():
    former = signal.getsignal(signal.SIGINT)
    try:
        for handler, expected in ((signal.default_int_handler, True), (signal.SIG_IGN, False)):
            signal.signal(signal.SIGINT, handler)
            with pytest.raises(KeyboardInterrupt) as found:
                decode(pickle.dumps(Raises(KeyboardInterrupt)), "the value")
            assert of_signal_handler(found.value) is expected
    finally:
        signal.signal(signal.SIGINT, former)


def test_no_signal_handler_runs_in_another_thread():
    found = []

    def in_thread():
        try:
            Handlers(TimeoutError)(signal.SIGALRM, sys._getframe())
        except TimeoutError as error:
            found.append(of_signal_handler(error))

    thread = threading.Thread(target=in_thread)
    thread.start()
    thread.join()
    assert found == [False]
