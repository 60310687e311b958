"""All errors of fsqueue, in one tree.

::

    FSQueueError
    ├── ConfigError                 (also a ValueError)
    ├── SpoolError                  the shared directory
    │   ├── SpoolReplacedError      another spool has replaced it
    │   ├── SpoolVersionError       written by another format version
    │   ├── StorageError            (also an OSError) a file does not fit on the disk
    │   └── EnvelopeError           a truncated, damaged or foreign file
    ├── SerializationError          (also a TypeError and pickle.PicklingError) a value that cannot
    │                               be written
    ├── TaskNotFoundError           the worker has no task of that name
    ├── DifferentArgumentsError     (also a ValueError) the pending call of its key differs
    ├── RetryError                  raised by a body that wants a retry
    └── InvocationError             a call ended without a value or an exception of its body
        ├── CancelledError          (also a concurrent.futures.CancelledError)
        ├── DependencyError         an invocation among its arguments failed
        ├── DeserializationError    (also a pickle.UnpicklingError) arguments or a result that
        │                           cannot be read back
        ├── InvocationCorruptError  its file was damaged and moved to quarantine
        ├── InvocationExpiredError  it was not started in time
        ├── ResultTooLargeError     its result does not fit into the shared directory
        ├── RemoteError             stands for an exception that could not be sent
        ├── StaleCodeError          the worker has other code than the caller, and refuses it
        ├── TaskTimeoutError        (also a TimeoutError) its body took too long
        ├── UnknownInvocationError  no such invocation, or its result has expired
        ├── WalltimeError           the jobs of its workers were too short for it
        └── WorkerLostError         its workers died `max_attempts` times
"""

from __future__ import annotations

from concurrent.futures import CancelledError as _CancelledError
from pickle import PicklingError, UnpicklingError

from fsqueue.common.values import pause


class FSQueueError(Exception):
    """Base class of all errors of this package."""


class ConfigError(FSQueueError, ValueError):
    """A setting is unknown or has a bad value; the message names the source."""


class SpoolError(FSQueueError):
    """The shared directory cannot be used. The message gives the reason and a remedy."""


class SpoolReplacedError(SpoolError):
    """The shared directory contains another spool than the one this process opened."""


class SpoolVersionError(SpoolError):
    """A file of the spool has another format version."""


class EnvelopeError(SpoolError):
    """A file of the spool is truncated, damaged or foreign."""


class StorageError(SpoolError, OSError):
    """A file does not fit on the disk of the shared directory. No part of it remains there.

    Args:
        code: the `errno`.
        text: which file does not fit, where, and how much space is free.
        size: size of the file in bytes.
        never: the file will not fit later either.
        alone: the disk is not full: smaller files may fit.
    """

    def __init__(
        self,
        code: int = 0,
        text: str = "",
        *,
        size: int = 0,
        never: bool = False,
        alone: bool = True,
    ) -> None:
        super().__init__(code, text)
        self.size: int = size
        self.never: bool = never
        self.alone: bool = alone


class SerializationError(FSQueueError, TypeError, PicklingError):
    """An argument or a result cannot be serialized."""


class TaskNotFoundError(FSQueueError):
    """The worker cannot import the task of an invocation."""


class DifferentArgumentsError(FSQueueError, ValueError):
    """A call with the same ``key_arguments`` is pending, and its other arguments differ."""


class RetryError(FSQueueError):
    """Raised by a body to request a retry, regardless of ``retry_for``.

    When no retries are left, the caller gets this error.

    Args:
        message: the reason.
        delay: seconds before the next attempt; None uses the task's options.

    Raises:
        TypeError: the delay is not a number.
        ValueError: the delay is longer than 100 years, or not a number (NaN).
    """

    def __init__(self, message: str = "", *, delay: float | None = None) -> None:
        super().__init__(message)
        self.delay: float | None = None if delay is None else pause("delay", delay)


class InvocationError(FSQueueError):
    """An invocation ended without a value or an exception of its body."""


class CancelledError(InvocationError, _CancelledError):
    """The invocation was cancelled before it ended."""


class DependencyError(InvocationError):
    """An invocation among the arguments failed. Its exception is the cause of this one.

    Attributes:
        invocation: id of the invocation that failed first, also at the start of a long chain.
        task: the name of its task; empty if that is not known.
    """

    def __init__(self, message: str, invocation: str = "", task: str = "") -> None:
        super().__init__(message, invocation, task)
        self.message = message
        self.invocation = invocation
        self.task = task

    def __str__(self) -> str:
        return self.message


class DeserializationError(InvocationError, UnpicklingError):
    """Undamaged bytes cannot be deserialized into the value that was sent."""


class InvocationCorruptError(InvocationError):
    """The invocation's file was damaged. It is in the spool's quarantine."""


class InvocationExpiredError(InvocationError):
    """The invocation was not started before its ``expires``."""


class ResultTooLargeError(InvocationError):
    """The body returned, but its result does not fit into the shared directory."""


class StaleCodeError(InvocationError):
    """The worker has loaded other code than the caller, and ``stale_code`` is "refuse"."""


class TaskTimeoutError(InvocationError, TimeoutError):
    """An attempt took longer than its task's ``timeout``."""


class UnknownInvocationError(InvocationError):
    """The spool has no invocation with this id: it is mistyped, or its result has expired."""


class WalltimeError(InvocationError):
    """The ends of `max_cuts` batch jobs cut the invocation off, each after nearly the whole job."""


class WorkerLostError(InvocationError):
    """The workers that ran the invocation died, `max_attempts` times in all."""


class RemoteError(InvocationError):
    """A substitute for a body's exception that could not be sent.

    Attributes:
        type_name: qualified name of the exception's class on the worker.
        message: ``str()`` of the exception.
        traceback_text: the worker's formatted traceback, or an empty string.
    """

    def __init__(self, type_name: str, message: str, traceback_text: str = "") -> None:
        super().__init__(type_name, message, traceback_text)
        self.type_name = type_name
        self.message = message
        self.traceback_text = traceback_text

    def __str__(self) -> str:
        text = f"{self.type_name}: {self.message}"
        return f"{text}\n\n{self.traceback_text}" if self.traceback_text else text


def queue_error(name: str, message: str) -> FSQueueError:
    """Create the error for a failure of the queue itself, from its name in a file of the spool.

    The name comes from a file, so only classes that the queue publishes this way are accepted.
    Any other name gives an `InvocationError` that mentions it: a newer version may have more.

    Args:
        name: the class's name, without its module.
        message: the error's message.
    """
    found = globals().get(name)
    if (
        not isinstance(found, type)
        or not issubclass(found, InvocationError | EnvelopeError)
        or found.__name__ != name
        or found is RemoteError  # stands for a body's exception, and needs more than a message
    ):
        return InvocationError(f"{name}: {message}")
    return found(message)
