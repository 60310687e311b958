"""Options that choose calls, for ``list`` and ``retry``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fsqueue.cli.command import option
from fsqueue.cli.options import seconds

if TYPE_CHECKING:
    from collections.abc import Callable


_OPTIONS = (
    option(
        "--since",
        type=seconds(),
        metavar="AGE",
        help="Only calls that were made, claimed or ended at most this long ago: 90, 15m, 2h, 7d.",
    ),
    option(
        "--failed-with",
        metavar="GROUP",
        help="Only failed calls of this group of `fsqueue failures`, or with this exception.",
    ),
    option("--run", metavar="RUN", help="Only calls of this process: see `fsqueue runs`."),
    option("--queue", metavar="QUEUE", help="Only calls of this queue."),
)


def filter_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options to a command."""
    for each in reversed(_OPTIONS):
        function = each(function)
    return function
