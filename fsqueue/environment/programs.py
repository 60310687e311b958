"""Starts programs, while no other thread of this process can fork.

A fork in another thread, for example by a `multiprocessing` pool, copies the pipe that tells
`Popen` that its program has started. `Popen` then also waits for the forked process to end.
"""

from __future__ import annotations

import os
import subprocess
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

_starting = threading.RLock()


def start(argv: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
    """Start a program; the options are those of `subprocess.Popen`.

    Raises:
        OSError: it is not on PATH, or may not be run.
    """
    with _starting:
        return subprocess.Popen(argv, **options)  # noqa: S603 - never a shell


def run(
    argv: Sequence[str], *, timeout: float, text: bytes = b"", **options: Any
) -> subprocess.CompletedProcess[bytes]:
    """Run a program with some input, and return its exit code and output.

    Raises:
        OSError: it is not on PATH, or may not be run.
        subprocess.TimeoutExpired: it did not end in time, in seconds, and was killed.
    """
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with start(argv, **pipes, **options) as process:
        try:
            out, err = process.communicate(text, timeout)
        except BaseException:
            process.kill()
            raise
        return subprocess.CompletedProcess(argv, process.wait(), out, err)


os.register_at_fork(
    before=_starting.acquire, after_in_parent=_starting.release, after_in_child=_starting.release
)
