"""Finds the child processes that libraries keep for the next body.

A process pool in a global variable, and joblib's pool, which loky keeps, serve one body after
another. Killing their processes would break the pool, or even hang it: an idle process of a
`multiprocessing.Pool` holds the lock of its queue. If a pool is still busy when the body has ended,
nobody needs its results, and its processes are ended. Resource trackers end by themselves.
"""

from __future__ import annotations

import contextlib
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_EXECUTORS = (
    "concurrent.futures.process",
    "loky.process_executor",
    "joblib.externals.loky.process_executor",
)
# A pool wakes its caller first, and marks itself as idle a moment later.
_MOMENT = 0.1
_POLL = 0.001


def kept_for_reuse(started: set[int] | None = None) -> set[int]:
    """The pids of idle pools and of managers that are still referenced.

    Args:
        started: only the pools of these processes are ended if they are busy; None means all.
            Other threads may run bodies that use theirs.
    """
    return {pid for pid in (*_of_executors(), *_of_multiprocessing(started)) if pid is not None}


def fork_server_of_bodies() -> int | None:
    """The pid of multiprocessing's fork server, which later bodies reuse; None if none runs."""
    module = sys.modules.get("multiprocessing.forkserver")
    server: Any = getattr(module, "_forkserver", None)
    pid: int | None = getattr(server, "_forkserver_pid", None)
    return pid


def _of_executors() -> Iterator[int]:
    for name in _EXECUTORS:
        threads: Any = getattr(sys.modules.get(name), "_threads_wakeups", ())
        for thread in list(threads):
            executor = thread.executor_reference()
            if executor is not None and _is_empty(executor._pending_work_items):  # noqa: SLF001
                yield from list(thread.processes)


def _of_multiprocessing(started: set[int] | None) -> Iterator[int | None]:
    registry: Any = getattr(sys.modules.get("multiprocessing.util"), "_finalizer_registry", {})
    for finalizer in list(registry.values()):
        reference = getattr(finalizer, "_weakref", None)
        owner: Any = reference() if reference is not None else None
        if isinstance(owner, _class("multiprocessing.pool", "Pool")):
            pids = [process.pid for process in list(owner._pool)]  # noqa: SLF001
            if started is not None and started.isdisjoint(pids):
                continue
            if _is_empty(owner._cache):  # noqa: SLF001
                yield from pids
            else:
                # Otherwise it would replace the killed processes by new ones.
                with contextlib.suppress(Exception):
                    owner.terminate()
        elif isinstance(owner, _class("multiprocessing.managers", "BaseManager")):
            yield owner._process.pid  # noqa: SLF001


def _class(module: str, name: str) -> Any:
    return getattr(sys.modules.get(module), name, ())


def _is_empty(work: dict[Any, Any]) -> bool:
    deadline = time.monotonic() + _MOMENT
    while work and time.monotonic() < deadline:
        time.sleep(_POLL)
    return not work
