"""The record in which this process describes itself to people who look at its calls."""

from __future__ import annotations

import os
import shlex
import sys

from fsqueue.environment.workdir import workdir
from fsqueue.spool.disk.identity import host_name
from fsqueue.spool.format.records import ClientRecord

_LONGEST_COMMAND = 200
# Set by the modules that run bodies; a process that only makes calls never imports them.
_CONTEXT = "fsqueue.runner.attempt.context"


def record_of(client: str, now: float, *, command: bool) -> ClientRecord:
    """The record of this process.

    Args:
        client: the name of its client.
        now: the time by the file server's clock.
        command: whether it has the command line, which may hold secrets.
    """
    here = workdir()
    return ClientRecord(
        name=client,
        host=host_name(),
        pid=os.getpid(),
        started=round(now, 3),
        user=_encodable(_user()),
        command=_command() if command else "",
        folder="" if here is None else _encodable(str(here)),
        parent=_parent(),
    )


def _command() -> str:
    text = _encodable(shlex.join(getattr(sys, "orig_argv", sys.argv)))
    return text if len(text) <= _LONGEST_COMMAND else f"{text[: _LONGEST_COMMAND - 3]}..."


def _encodable(text: str) -> str:
    """Escape bytes that are not UTF-8, which names of files and users may contain."""
    return text.encode("utf-8", "backslashreplace").decode()


def _user() -> str:
    import pwd

    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def _parent() -> str:
    """The invocation in whose body this runs; empty outside of a body."""
    context = sys.modules.get(_CONTEXT)
    current = None if context is None else context.current_invocation()
    return "" if current is None else str(current.id)
