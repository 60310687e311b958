"""What a runner needs of the application it works for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from fsqueue.config import Config
    from fsqueue.spool.store import Store


class Host(Protocol):
    """An application: settings, a spool and a way from a task's name to its function."""

    @property
    def conf(self) -> Config:
        """Its settings."""

    @property
    def store(self) -> Store:
        """This process's handle on the spool."""

    @property
    def events(self) -> bool:
        """Whether to listen to bells: they are heard on this machine only."""

    @property
    def app_id(self) -> str:
        """Its name."""

    def resolve(self, task: str) -> Callable[..., Any]:
        """The function of a task.

        Raises:
            TaskNotFoundError: no module here defines it.
        """

    def unpickles(self, task: str) -> bool:
        """Whether calls of a resolved task may be pickles."""

    def locate(self) -> str:
        """``module:attribute`` under which another process can import the application."""
