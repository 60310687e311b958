"""Distribute a function with one decorator and nothing but a shared directory."""

from fsqueue.app import FSQueue
from fsqueue.errors import (
    ConfigError,
    FSQueueError,
    InvocationError,
    RemoteError,
    SerializationError,
    SpoolError,
    TaskNotFoundError,
    WorkerLostError,
)
from fsqueue.invocation import Invocation, InvocationGroup
from fsqueue.spool.states import State
from fsqueue.task import Task, args

__version__ = "0.1.0"

__all__ = [
    "ConfigError",
    "FSQueue",
    "FSQueueError",
    "Invocation",
    "InvocationError",
    "InvocationGroup",
    "RemoteError",
    "SerializationError",
    "SpoolError",
    "State",
    "Task",
    "TaskNotFoundError",
    "WorkerLostError",
    "__version__",
    "args",
]
