"""Logging: extra fields of this package's records, and the log of a worker.

Loggers have the names of their modules. The logger ``fsqueue.calls`` is special: it has a line for
each step of each call. Only `set_up` configures logging. ``fsqueue worker`` calls it, also in the
processes of its slots.
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
_TAGS: Final = ("invocation", "attempt", "task", "worker", "label")


def tags(
    invocation: str = "", attempt: int = 0, task: str = "", worker: str = ""
) -> dict[str, Any]:
    """Extra fields of a record. Unknown fields are left out.

    Args:
        invocation: the id of the call.
        attempt: the number of the attempt, from 1.
        task: ``module.func``.
        worker: the worker's name.
    """
    found = zip(_TAGS, (invocation, attempt, task, worker), strict=False)
    return {name: value for name, value in found if value}


class LogSetup(NamedTuple):
    """The form of a worker's log on standard error."""

    format: LogFormat = "text"
    calls: bool = False
    """Also log each step of each call."""


_chosen: LogSetup | None = None


def chosen() -> LogSetup | None:
    """The setup of this process; None if the application configures logging itself."""
    return _chosen


def set_up(setup: LogSetup) -> None:
    """Log the records of this process with level INFO or higher to standard error."""
    global _chosen  # noqa: PLW0603 - one per process, like the logging module
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
    """Formats text lines so that no message can add a line that looks like another record.

    Messages of this package stay on one line. Messages of other loggers, tracebacks and stacks can
    have several lines. All lines after the first begin with ``|``.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The record as text."""
        plain = copy.copy(record)
        plain.exc_text = None  # the formatter of another handler may have set it
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
    """Formats one JSON object per line."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as JSON; times are UTC."""
        moment = datetime.fromtimestamp(record.created, UTC)
        document = {
            "time": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        document |= {name: vars(record)[name] for name in _TAGS if vars(record).get(name)}
        if record.exc_info:
            document["exception"] = self.formatException(record.exc_info)
        return json.dumps(document, default=str)
