"""Makes this interpreter look like one of macOS: no /proc, no inotify, none of Linux's own calls.

Python imports it at its start, if its folder is on PYTHONPATH. Libraries that differ between
systems are imported before, and keep what they need of Linux.
"""

import builtins
import errno
import os
import sys
import sysconfig

import psutil  # noqa: F401
import watchdog.observers  # noqa: F401


def _hidden(function):
    """A function of paths, for which /proc is not there unless psutil asks."""

    def call(path, *args, **options):
        if str(path).startswith("/proc") and not _asked_by_psutil():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return function(path, *args, **options)

    return call


def _asked_by_psutil():
    """Whether psutil calls, itself or by way of the standard library."""
    frame = sys._getframe(2)
    while frame is not None:
        if frame.f_globals.get("__name__", "").startswith("psutil"):
            return True
        frame = frame.f_back
    return False


builtins.open = _hidden(open)
for name in ("listdir", "scandir", "stat", "readlink"):
    setattr(os, name, _hidden(getattr(os, name)))
sysconfig.get_config_vars()  # it reads a file whose name has the platform
sys.platform = "darwin"
