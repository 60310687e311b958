"""Distribute a function with one decorator and nothing but a shared directory."""

from fsqueue.app import FSQueue
from fsqueue.arguments import args
from fsqueue.errors import (
    CancelledError,
    ConfigError,
    DependencyError,
    FSQueueError,
    InvocationError,
    RemoteError,
    RetryError,
    SerializationError,
    SpoolError,
    TaskNotFoundError,
    TaskTimeoutError,
    WorkerLostError,
)
from fsqueue.invocation import Invocation, InvocationGroup
from fsqueue.runner.context import current_invocation
from fsqueue.spool.reports import Progress
from fsqueue.spool.states import State
from fsqueue.task import Task

__version__ = "0.1.0"

__all__ = [
    "CancelledError",
    "ConfigError",
    "DependencyError",
    "FSQueue",
    "FSQueueError",
    "Invocation",
    "InvocationError",
    "InvocationGroup",
    "Progress",
    "RemoteError",
    "RetryError",
    "SerializationError",
    "SpoolError",
    "State",
    "Task",
    "TaskNotFoundError",
    "TaskTimeoutError",
    "WorkerLostError",
    "__version__",
    "args",
    "current_invocation",
]
