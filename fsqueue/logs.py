"""Log records of this package: their extra fields, and how a worker shows them.

Loggers are called ``fsqueue.<module>``, but for ``fsqueue.calls``, which has a line for each step
of each call. Nothing is configured but by `set_up`, which ``fsqueue worker`` calls, in the
processes of its slots too.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, Final, Literal, NamedTuple

LogFormat = Literal["text", "json"]
CALLS: Final = "fsqueue.calls"
_TAGS: Final = ("invocation", "attempt", "task", "worker")


def tags(
    invocation: str = "", attempt: int = 0, task: str = "", worker: str = ""
) -> dict[str, Any]:
    """Extra fields of a record; those that are not known are left out.

    Args:
        invocation: id of the call.
        attempt: its number, from 1.
        task: ``module.func``.
        worker: the worker's name.
    """
    found = zip(_TAGS, (invocation, attempt, task, worker), strict=True)
    return {name: value for name, value in found if value}


class LogSetup(NamedTuple):
    """How a worker shows its log on standard error."""

    format: LogFormat = "text"
    calls: bool = False
    """A line for each step of each call too."""


_chosen: LogSetup | None = None


def chosen() -> LogSetup | None:
    """What this process has been set up with; None if its log is somebody else's."""
    return _chosen


def set_up(setup: LogSetup) -> None:
    """Show the records of this process, from INFO on, on standard error."""
    global _chosen  # noqa: PLW0603 - as logging itself, one a process
    _chosen = setup
    logging.basicConfig(level=logging.INFO, handlers=[_handler(setup.format)])
    logging.getLogger(CALLS).setLevel(logging.INFO if setup.calls else logging.WARNING)


def _handler(kind: LogFormat) -> logging.Handler:
    if kind == "json":
        handler: logging.Handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(JsonFormatter())
    elif sys.stderr.isatty():
        from rich.console import Console
        from rich.logging import RichHandler

        handler = RichHandler(
            console=Console(file=sys.stderr), show_path=False, log_time_format="%H:%M:%S"
        )
        handler.setFormatter(TextFormatter("%(message)s"))
    else:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(TextFormatter("%(asctime)s %(levelname)s %(message)s"))
    return handler


class TextFormatter(logging.Formatter):
    """Lines without what a terminal would take for a command."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as text."""
        text = super().format(record)
        if text.isprintable():
            return text
        return "".join(
            each if each.isprintable() or each in "\n\t" else ascii(each)[1:-1] for each in text
        )


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as JSON; times are UTC."""
        moment = datetime.fromtimestamp(record.created, UTC)
        document = {
            "time": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        document |= {name: vars(record)[name] for name in _TAGS if name in vars(record)}
        if record.exc_info:
            document["exception"] = self.formatException(record.exc_info)
        return json.dumps(document, default=str)
