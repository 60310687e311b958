"""The interface of an application that a runner works for."""

from __future__ import annotations

import pkgutil
import sys
from typing import TYPE_CHECKING, Final, Protocol

from fsqueue.runner.attempt.context import Body
from fsqueue.spool.format.names import EXECUTOR_PREFIX

if TYPE_CHECKING:
    from collections.abc import Callable

    from fsqueue.config import Config
    from fsqueue.runner.attempt.answers import Answer
    from fsqueue.runner.attempt.context import Execution
    from fsqueue.spool.store.store import Store

EXECUTOR_APP: Final = f"{EXECUTOR_PREFIX}{sys.version_info.major}{sys.version_info.minor}"
"""The built-in application of `fsqueue.Executor`: its calls hold code of this Python version."""
EXECUTOR_TASK: Final = "fsqueue.executor.body.run"


class Triggers(Protocol):
    """The triggers of an application: they call tasks on ticks, events and the ends of calls."""

    @property
    def needs_attention(self) -> bool:
        """Whether a worker must call `attend` regularly."""

    def attend(self) -> float:
        """Fire what is due. Returns the seconds after which to check again at the latest."""

    def ended(self, execution: Execution, answer: Answer | None) -> None:
        """Fire the triggers that wait for the end of a call, before its outcome is published.

        Args:
            answer: how it ends; None if another process has ended it.

        Raises:
            OSError: the shared directory failed. Call it again to complete the rest.
        """


class Host(Protocol):
    """An application: its settings, its spool, and the lookup of a task's function by name."""

    @property
    def conf(self) -> Config:
        """Its settings."""

    @property
    def store(self) -> Store:
        """This process's handle on the spool."""

    @property
    def root(self) -> str:
        """Absolute path of the shared directory. Does not open it."""

    def expect_spool(self, spool_id: str) -> None:
        """Let `store` open only this spool, and never create one."""

    @property
    def events(self) -> bool:
        """Whether file system events wake this process."""

    @property
    def app_id(self) -> str:
        """Its name."""

    @property
    def triggers(self) -> Triggers:
        """Its triggers."""

    def resolve(self, task: str) -> Body:
        """The function of a task.

        Raises:
            TaskNotFoundError: no module here defines it.
        """

    def locate(self) -> str:
        """``module:attribute`` from which another process can import the application."""


def apps_of(host: Host, *, executor: bool) -> frozenset[str]:
    """The applications whose calls a worker of an application runs."""
    return frozenset({host.app_id, EXECUTOR_APP} if executor else {host.app_id})


def resolver_of(host: Host, *, executor: bool) -> Callable[[str], Body]:
    """The function that finds the bodies of tasks.

    Args:
        executor: also run the calls of `fsqueue.Executor`.
    """

    def resolve(task: str) -> Body:
        if task == EXECUTOR_TASK:
            return Body(pkgutil.resolve_name(task))
        return host.resolve(task)

    return resolve if executor else host.resolve
