"""The machine on which figures are measured, and a folder to measure in."""

import contextlib
import os
import platform
import shutil
import tempfile
from pathlib import Path

from fsqueue.spool.disk.mounts import filesystem_type

MEMORY = Path("/dev/shm")


def describe():
    """The facts about the machine that a reader of figures needs."""
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
    """The folder of a filesystem in memory, or the temporary folder if there is none."""
    return MEMORY if os.access(MEMORY, os.W_OK) else Path(tempfile.gettempdir())


@contextlib.contextmanager
def fresh_folder(base):
    """Make a new folder; it is removed at the end of the block."""
    folder = Path(tempfile.mkdtemp(prefix="fsqueue-bench-", dir=base))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
