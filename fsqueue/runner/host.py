"""What a runner needs of the application it works for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from fsqueue.config import Config
    from fsqueue.runner.attempt.bodies import Answer
    from fsqueue.runner.attempt.context import Execution
    from fsqueue.spool.store.store import Store


class Triggers(Protocol):
    """What makes an application's tasks run by themselves."""

    @property
    def needs_attention(self) -> bool:
        """Whether a worker must call `attend` regularly."""

    def attend(self) -> float:
        """Fire what is due; returns after how many seconds to look again, at the latest."""

    def ended(self, execution: Execution, answer: Answer | None) -> None:
        """Fire what waits for the end of a call, before its outcome is published.

        Args:
            execution: the call.
            answer: how it ends; None: somebody else has ended it.

        Raises:
            OSError: the shared directory failed; to try again does what is left to do.
        """


class Host(Protocol):
    """An application: settings, a spool and a way from a task's name to its function."""

    @property
    def conf(self) -> Config:
        """Its settings."""

    @property
    def store(self) -> Store:
        """This process's handle on the spool."""

    @property
    def root(self) -> str:
        """Absolute path of the shared directory, which is not opened."""

    def expect_spool(self, spool_id: str) -> None:
        """Let `store` open no other spool than this one, and make none where it is missing."""

    @property
    def events(self) -> bool:
        """Whether to listen to bells: they are heard on this machine only."""

    @property
    def app_id(self) -> str:
        """Its name."""

    @property
    def triggers(self) -> Triggers:
        """What makes its tasks run by themselves."""

    def resolve(self, task: str) -> Callable[..., Any]:
        """The function of a task.

        Raises:
            TaskNotFoundError: no module here defines it.
        """

    def unpickles(self, task: str) -> bool:
        """Whether calls of a resolved task may be pickles."""

    def locate(self) -> str:
        """``module:attribute`` under which another process can import the application."""
