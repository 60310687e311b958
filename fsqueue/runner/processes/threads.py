"""Starts the threads that a worker needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fsqueue.errors import FSQueueError

if TYPE_CHECKING:
    import threading


def start_threads(*threads: threading.Thread) -> None:
    """Start threads, one after another.

    Raises:
        FSQueueError: this process cannot start another thread; the earlier ones are running.
    """
    for thread in threads:
        try:
            thread.start()
        except RuntimeError as error:
            raise FSQueueError(
                f"cannot start the threads of a worker: {error}. Raise the limit of processes "
                "(ulimit -u, or pids.max of the cgroup), or end others."
            ) from error
