"""Distribute a function with one decorator and nothing but a shared directory."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fsqueue.app import FSQueue
    from fsqueue.calls.arguments import args
    from fsqueue.errors import (
        CancelledError,
        ConfigError,
        DependencyError,
        DeserializationError,
        FSQueueError,
        InvocationError,
        RemoteError,
        RetryError,
        SerializationError,
        SpoolError,
        TaskNotFoundError,
        TaskTimeoutError,
        WalltimeError,
        WorkerLostError,
    )
    from fsqueue.executor.executor import Executor
    from fsqueue.invocation import Invocation, InvocationGroup
    from fsqueue.results.waiting import as_completed, wait
    from fsqueue.runner.attempt.context import current_invocation
    from fsqueue.spool.features.body_reports import Progress
    from fsqueue.spool.format.states import State
    from fsqueue.task import Task

__version__ = "0.1.0"

__all__ = [
    "CancelledError",
    "ConfigError",
    "DependencyError",
    "DeserializationError",
    "Executor",
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
    "WalltimeError",
    "WorkerLostError",
    "__version__",
    "args",
    "as_completed",
    "current_invocation",
    "wait",
]

# The module of each public name. A name is imported on first use, because the command line and each
# process of a worker import this package and need only parts of it.
_MODULES = {
    "CancelledError": "fsqueue.errors",
    "ConfigError": "fsqueue.errors",
    "DependencyError": "fsqueue.errors",
    "DeserializationError": "fsqueue.errors",
    "Executor": "fsqueue.executor.executor",
    "FSQueue": "fsqueue.app",
    "FSQueueError": "fsqueue.errors",
    "Invocation": "fsqueue.invocation",
    "InvocationError": "fsqueue.errors",
    "InvocationGroup": "fsqueue.invocation",
    "Progress": "fsqueue.spool.features.body_reports",
    "RemoteError": "fsqueue.errors",
    "RetryError": "fsqueue.errors",
    "SerializationError": "fsqueue.errors",
    "SpoolError": "fsqueue.errors",
    "State": "fsqueue.spool.format.states",
    "Task": "fsqueue.task",
    "TaskNotFoundError": "fsqueue.errors",
    "TaskTimeoutError": "fsqueue.errors",
    "WalltimeError": "fsqueue.errors",
    "WorkerLostError": "fsqueue.errors",
    "args": "fsqueue.calls.arguments",
    "as_completed": "fsqueue.results.waiting",
    "current_invocation": "fsqueue.runner.attempt.context",
    "wait": "fsqueue.results.waiting",
}

if not TYPE_CHECKING:  # it would make type checkers accept any name

    def __getattr__(name: str) -> Any:
        from importlib import import_module

        if name in {"errors", "triggers"}:
            return import_module(f"{__name__}.{name}")
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(_MODULES[name]), name)
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
