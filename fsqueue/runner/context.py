"""Where code runs: in the body of which invocation, at which worker."""

from __future__ import annotations

import os
import threading
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from fsqueue.spool.records import Call
    from fsqueue.spool.store import Claim, Store
    from fsqueue.spool.worker import Worker


@dataclass(eq=False)
class Workplace:
    """What executing a claim takes.

    Args:
        store: the spool.
        worker: gives the claimant; a slot's process registers one only when it needs it.
        resolve: the way from a task's name to its function.
        queues: the queues whose tasks `resolve` knows.
        exclusive: this process does nothing but run bodies.
    """

    store: Store
    worker: Callable[[], Worker]
    resolve: Callable[[str], Callable[..., Any]]
    queues: tuple[str, ...]
    exclusive: bool
    aborted: threading.Event = field(default_factory=threading.Event)
    pid: int = field(default_factory=os.getpid)


@dataclass(frozen=True)
class Execution:
    """A body that is running."""

    workplace: Workplace
    claim: Claim
    call: Call


current: ContextVar[Execution | None] = ContextVar("fsqueue_execution", default=None)

_open: list[Workplace] = []


def enter(workplace: Workplace) -> None:
    """This process has slots of a worker from now on."""
    _open.append(workplace)


def leave(workplace: Workplace) -> None:
    """The end of that."""
    _open.remove(workplace)


def helper(root: str, queue: str) -> Workplace | None:
    """The workplace that must run a pending call itself rather than wait for it; None if none.

    Within a body it is the body's own, which holds a slot while it waits. A thread that a body
    has started does not say whose it is; but in a process that does nothing but run bodies
    every thread is one of theirs.

    Args:
        root: the spool of the call.
        queue: its queue.
    """
    execution = current.get()
    found = [execution.workplace] if execution else [each for each in _open if each.exclusive]
    for workplace in found:
        # A process that a body has forked is not the worker that it looks like.
        here = workplace.pid == os.getpid() and workplace.store.layout.root == root
        if here and queue in workplace.queues:
            return workplace
    return None
