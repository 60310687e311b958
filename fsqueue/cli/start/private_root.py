"""The notice that a worker's shared directory exists only on this machine."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from fsqueue.environment.machine import unread_root
from fsqueue.runner.processes.job import SUPERVISOR

if TYPE_CHECKING:
    from fsqueue.app import FSQueue


def private_root_notice(app: FSQueue) -> str:
    """A notice if other hosts cannot see the root of an application; otherwise empty.

    It is empty in a worker with a supervisor, which prints it once for all its workers. The spool
    is opened first, because a root that cannot be used is an error.

    Raises:
        SpoolError: the root cannot be used.
    """
    from fsqueue.spool.disk.mounts import filesystem_type, is_remote

    if SUPERVISOR in os.environ:
        return ""
    root = app.store.layout.root
    if is_remote(root):
        return ""
    if app.conf.root is None:
        what = f"is a private folder of this machine, as no root is set{unread_root()}"
    elif kind := filesystem_type(root):
        what = f"is on a local filesystem of this machine ({kind})"
    else:
        return ""
    return (
        f"{root} {what}: processes on other hosts cannot see it. To share work between hosts, set "
        "FSQUEUE__ROOT to a directory that all of them see."
    )
