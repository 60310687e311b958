"""The list of all commands.

A command is one file, ``fsqueue/cli/<section>/<name>.py``, which defines ``command``. To add one,
write the file, and add its name here with a few words for ``fsqueue --help``, which shows the
sections in this order.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

SECTIONS: Final = MappingProxyType(
    {
        "Start": {
            "worker": "run the calls of tasks",
            "submit": "call a task",
            "up": "keep workers running",
            "emit": "emit an event",
            "launch": "workers as batch jobs",
            "autoscale": "as many as needed",
            "fleet": "see and stop them",
        },
        "Inspect": {
            "status": "queues and workers",
            "top": "the same, live",
            "list": "find calls",
            "show": "one call in full",
            "result": "the value of a call",
            "wait": "until calls have ended",
            "logs": "what a call printed",
            "failures": "by reason",
            "runs": "by process",
            "monitor": "as a web page",
            "report": "a file to take home",
            "workers": "which runs what",
            "stats": "rates and run times",
            "metrics": "for Prometheus",
            "triggers": "the next ticks",
        },
        "Change": {
            "cancel": "stop calls",
            "retry": "run failed calls again",
            "requeue": "take back from a worker",
            "pause": "hold a queue back",
            "resume": "serve it again",
            "purge": "empty a queue",
            "drain": "let workers leave",
        },
        "Maintain": {
            "doctor": "check a directory",
            "gc": "remove old files now",
            "config": "where settings are set",
            "completion": "for your shell",
            "version": "print the version",
        },
    }
)
"""Names of commands by section, with the words that `fsqueue --help` shows."""


def module_of(name: str) -> str | None:
    """The module that defines a command, or ``None`` if there is no such command."""
    for section, names in SECTIONS.items():
        if name in names:
            return f"fsqueue.cli.{section.lower()}.{name}"
    return None
