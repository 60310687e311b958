"""Repairs the standard streams of processes that run bodies."""

from __future__ import annotations

import os
import sys

_STANDARD = (0, 1, 2)


def open_closed_streams() -> None:
    """Open /dev/null on each of the descriptors 0 to 2 that is closed.

    Otherwise the next file that the process opens would be standard output. If it is a file of the
    spool, everything that a library prints would go there.
    """
    for number in _STANDARD:
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened == number:
                os.set_inheritable(number, True)
            else:  # another thread has just opened something there
                os.close(opened)


def empty_stdin() -> None:
    """Make standard input empty for this process and its children.

    A terminal stops all processes of a background job as soon as one of them reads from it.
    """
    opened = os.open(os.devnull, os.O_RDONLY)
    if opened == 0:
        os.set_inheritable(0, True)
        return
    os.dup2(opened, 0)
    os.close(opened)


def replace_missing_streams() -> None:
    """Create the streams that Python lacked at its start. Call `open_closed_streams` before."""
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - never closed
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
