"""Facts about this machine that settings depend on: processors, user and temporary folder."""

from __future__ import annotations

import os
from pathlib import Path


def default_root(app_id: str) -> Path:
    """The directory of an application without a ``root``. Does not create it."""
    import pwd
    import tempfile

    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container may run under a user id without a name
        user = str(os.getuid())
    return Path(tempfile.gettempdir(), f"fsqueue-{user}", app_id)


def unread_root() -> str:
    """A hint to append to "no root is set", if a misspelled variable was meant to set it."""
    return " (FSQUEUE_ROOT is not read: FSQUEUE__ROOT is)" if "FSQUEUE_ROOT" in os.environ else ""


def usable_cpus() -> int:
    """How many processors this process may use."""
    if hasattr(os, "process_cpu_count"):  # since Python 3.13
        return os.process_cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
