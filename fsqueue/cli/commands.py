"""The list of all commands.

A command is one file, ``fsqueue/cli/<section>/<name>.py``, which defines ``command``. To add one,
write the file and add its name here. The sections and their order are those of ``fsqueue --help``.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

SECTIONS: Final = MappingProxyType(
    {
        "Start": ("worker", "submit", "emit"),
        "Cluster": ("up", "launch", "autoscale", "fleet"),
        "Inspect": (
            "status",
            "top",
            "workers",
            "stats",
            "metrics",
            "list",
            "show",
            "logs",
            "wait",
            "result",
            "triggers",
        ),
        "Change": ("cancel", "retry", "requeue", "pause", "resume", "purge", "drain"),
        "Maintain": ("doctor", "gc", "config", "completion", "version"),
    }
)
"""Names of commands by section."""


def module_of(name: str) -> str | None:
    """The module that defines a command, or ``None`` if there is no such command."""
    for section, names in SECTIONS.items():
        if name in names:
            return f"fsqueue.cli.{section.lower()}.{name}"
    return None
