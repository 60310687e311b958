"""Log records of this package: their extra fields, and how a worker shows them.

Loggers are called ``fsqueue.<module>``, but for ``fsqueue.calls``, which has a line for each step
of each call. Nothing is configured but by `set_up`, which ``fsqueue worker`` calls, in the
processes of its slots too.
"""

from __future__ import annotations

import copy
import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, Final, Literal, NamedTuple

from fsqueue.common.printable import CONTINUED, indented, printable

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
    """Text lines, in which no message can add a line that looks like another record.

    Messages of this package stay on one line. Those of other loggers, tracebacks and stacks may
    have several, and all but the first begin with ``|``.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The record as text."""
        plain = copy.copy(record)
        plain.exc_text = None  # another handler's formatter may have left one here
        return super().format(plain)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """The line of a record, without its traceback."""
        text = super().formatMessage(record)
        if record.name.partition(".")[0] == "fsqueue":
            return printable(text, keep="\t")
        first, *others = text.split("\n", 1)
        return "\n".join([printable(first, keep="\t"), *(indented(o, CONTINUED) for o in others)])

    def formatException(self, ei: Any) -> str:  # noqa: N802 - logging's name
        """The traceback of a record."""
        return indented(super().formatException(ei), CONTINUED)

    def formatStack(self, stack_info: str) -> str:  # noqa: N802 - logging's name
        """The stack of a record."""
        return indented(super().formatStack(stack_info), CONTINUED)


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
