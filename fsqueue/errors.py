"""Every error that fsqueue raises, in one tree.

::

    FSQueueError
    ├── ConfigError                 (also a ValueError)
    ├── SpoolError                  the shared directory
    │   ├── SpoolReplacedError      another spool has taken its place
    │   ├── SpoolVersionError       written by another format version
    │   ├── StorageError            (also an OSError) a file does not fit on its disk
    │   └── EnvelopeError           a file that is not what it claims to be
    ├── SerializationError          (also a TypeError) a value that cannot be written
    ├── TaskNotFoundError           the worker has no task of that name
    ├── DifferentArgumentsError     (also a ValueError) the pending call of its key differs
    ├── RetryError                  raised by a body that wants to be run again
    └── InvocationError             one call, seen by its caller
        ├── CancelledError          (also a concurrent.futures.CancelledError)
        ├── DependencyError         what its arguments were to come from has failed
        ├── DeserializationError    arguments or a result that cannot be read back
        ├── InvocationCorruptError  its file was damaged and put into quarantine
        ├── InvocationExpiredError  it was not started in time
        ├── ResultTooLargeError     its result does not fit into the shared directory
        ├── RemoteError             an exception that could not travel as itself
        ├── TaskTimeoutError        (also a TimeoutError) its body took too long
        ├── UnknownInvocationError  no such invocation, or it has expired
        └── WorkerLostError         its workers died, as often as allowed
"""

from __future__ import annotations

from concurrent.futures import CancelledError as _CancelledError

from fsqueue.common.values import pause


class FSQueueError(Exception):
    """Base of all errors of this package."""


class ConfigError(FSQueueError, ValueError):
    """A setting is unknown or has a bad value; the message names the source."""


class SpoolError(FSQueueError):
    """The shared directory cannot be used; the message says why and what to do."""


class SpoolReplacedError(SpoolError):
    """The shared directory holds another spool than the one that this process has opened."""


class SpoolVersionError(SpoolError):
    """A file of the spool was written by another version of its format."""


class EnvelopeError(SpoolError):
    """A file of the spool is truncated, damaged or foreign."""


class StorageError(SpoolError, OSError):
    """A file does not fit on the disk of the shared directory; nothing of it is left there.

    Args:
        code: the `errno`.
        text: what does not fit, where, and how much room there is.
        size: of the file, in bytes.
        never: it cannot fit, however long one waits.
        alone: smaller files may fit: the disk is not full for everybody.
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
        self.size, self.never, self.alone = size, never, alone


class SerializationError(FSQueueError, TypeError):
    """An argument or a result cannot be serialized."""


class TaskNotFoundError(FSQueueError):
    """The worker cannot import the task that an invocation names."""


class DifferentArgumentsError(FSQueueError, ValueError):
    """A call of the same ``key_arguments`` is pending, and its other arguments differ."""


class RetryError(FSQueueError):
    """Raised by a body to be run again, whatever ``retry_for`` says.

    When no retries are left, the caller gets it.

    Args:
        message: why.
        delay: seconds before the next attempt; None leaves it to the task's options.

    Raises:
        TypeError: the delay is no number.
        ValueError: the delay is longer than 100 years, or not a number (NaN).
    """

    def __init__(self, message: str = "", *, delay: float | None = None) -> None:
        super().__init__(message)
        self.delay = None if delay is None else pause("delay", delay)


class InvocationError(FSQueueError):
    """An invocation ended without an answer of its body."""


class CancelledError(InvocationError, _CancelledError):
    """The invocation was cancelled before it ended."""


class DependencyError(InvocationError):
    """An invocation whose result was to be an argument has failed; its exception is the cause.

    Attributes:
        invocation: id of the one that has failed itself, however many lie between.
        task: its task's name; empty where that is not known.
    """

    def __init__(self, message: str, invocation: str = "", task: str = "") -> None:
        super().__init__(message, invocation, task)
        self.message = message
        self.invocation = invocation
        self.task = task

    def __str__(self) -> str:
        return self.message


class DeserializationError(InvocationError):
    """Bytes that arrived whole cannot be turned back into the value that was sent."""


class InvocationCorruptError(InvocationError):
    """The invocation's file was damaged; it lies in the spool's quarantine."""


class InvocationExpiredError(InvocationError):
    """The invocation was not started before its ``expires``."""


class ResultTooLargeError(InvocationError):
    """The body has returned, and its result does not fit into the shared directory."""


class TaskTimeoutError(InvocationError, TimeoutError):
    """An attempt took longer than its task's ``timeout``."""


class UnknownInvocationError(InvocationError):
    """The spool knows no invocation of this id: mistyped, or its result has expired."""


class WorkerLostError(InvocationError):
    """Every worker that ran the invocation died, as many times as it may be attempted."""


class RemoteError(InvocationError):
    """A body's exception that could not be sent as itself.

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
    """Create the error that a file of the spool names, for a failure of the queue itself.

    The name comes from a file, so only the classes that the queue publishes this way count. Any
    other name gives an `InvocationError` that mentions it: it may be a newer version's class.

    Args:
        name: the class's name, without its module.
        message: the error's message.
    """
    found = globals().get(name)
    if (
        not isinstance(found, type)
        or not issubclass(found, InvocationError | EnvelopeError)
        or found.__name__ != name
        or found is RemoteError  # describes an exception of a body, in more than a message
    ):
        return InvocationError(f"{name}: {message}")
    return found(message)
