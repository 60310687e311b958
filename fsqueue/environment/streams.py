"""The standard streams of processes that run bodies."""

from __future__ import annotations

import os
import sys

_STANDARD = (0, 1, 2)


def open_closed_streams() -> None:
    """Open /dev/null on those of the descriptors 0 to 2 that are closed.

    The next file that is opened would be standard output otherwise, and if that is a file of the
    spool, whatever a library prints goes there.
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
    """Let this process, and what it starts, read nothing from standard input.

    A terminal stops all processes of a job in the background as soon as one of them reads.
    """
    opened = os.open(os.devnull, os.O_RDONLY)
    if opened == 0:
        os.set_inheritable(0, True)
        return
    os.dup2(opened, 0)
    os.close(opened)


def replace_missing_streams() -> None:
    """Give Python its streams, after `open_closed_streams`, where there were none at its start."""
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - for good
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
