"""The errors that files of the spool name (P8)."""

import inspect

import pytest

from fsqueue import errors
from fsqueue.errors import (
    CancelledError,
    EnvelopeError,
    InvocationError,
    RemoteError,
    WorkerLostError,
    queue_error,
)

OWN = [
    cls
    for _, cls in inspect.getmembers(errors, inspect.isclass)
    if issubclass(cls, InvocationError | EnvelopeError) and cls is not RemoteError
    if not cls.__name__.startswith("_")
]


@pytest.mark.parametrize("cls", OWN, ids=lambda cls: cls.__name__)
def test_each_error_of_the_queue_is_created_from_its_name(cls):
    error = queue_error(cls.__name__, "what happened")
    assert type(error) is cls
    assert str(error) == "what happened"


def test_the_errors_that_workers_publish_are_among_them():
    assert {CancelledError, EnvelopeError, WorkerLostError} <= set(OWN)


@pytest.mark.parametrize(
    "name",
    [
        "annotations",
        "__doc__",
        "__name__",
        "__builtins__",
        "queue_error",
        "FSQueueError",
        "ConfigError",
        "RemoteError",
        "RetryError",
        "_CancelledError",
        "SystemExit",
        "KeyboardInterrupt",
        "errors.CancelledError",
        "fsqueue.errors.CancelledError",
        "InvocationError.__class__",
        "NewerVersionsError",
        "",
    ],
)
def test_a_name_that_is_no_error_of_the_queue_gives_an_invocation_error(name):
    error = queue_error(name, "what happened")
    assert type(error) is InvocationError
    assert str(error) == f"{name}: what happened"
