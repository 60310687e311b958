"""Exit codes of the ``fsqueue`` command."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

OK: Final = 0
NEGATIVE: Final = 1
USAGE: Final = 2
NOT_FOUND: Final = 3
TIMEOUT: Final = 4
INTERRUPTED: Final = 130

MEANINGS: Final = MappingProxyType(
    {
        OK: "done",
        NEGATIVE: (
            "the call failed, was cancelled or had already ended; `doctor`: the directory has weak "
            "points"
        ),
        USAGE: "a bad option or setting, or the shared directory cannot be used",
        NOT_FOUND: "no such spool, queue, worker, task or invocation",
        TIMEOUT: "the call has not ended yet, or not before the timeout",
        INTERRUPTED: "Ctrl-C; 0 for commands that run until then, such as a worker or `top`",
    }
)
"""The meaning of each exit code."""
