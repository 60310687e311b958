"""The machine that figures were taken on, and a folder to take them in."""

import contextlib
import os
import platform
import shutil
import tempfile
from pathlib import Path

from fsqueue.spool.disk.mounts import filesystem_type

MEMORY = Path("/dev/shm")


def describe():
    """What a reader of figures must know about where they were taken."""
    return {
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "load before": round(os.getloadavg()[0], 2),
    }


def sentence(machine):
    return (
        f"{machine['cores']} cores, Python {machine['python']}, {machine['platform']}, "
        f"load average before the run {machine['load before']}"
    )


def kind(folder):
    """Type of the filesystem of a folder."""
    return filesystem_type(str(folder))


def memory_or_disk():
    """The folder in memory, where that is possible."""
    return MEMORY if os.access(MEMORY, os.W_OK) else Path(tempfile.gettempdir())


@contextlib.contextmanager
def fresh_folder(base):
    """A folder of its own that is removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="fsqueue-bench-", dir=base))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
