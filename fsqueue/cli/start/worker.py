"""``fsqueue worker``."""

from __future__ import annotations

import logging
import os
import sys
import threading
from typing import TYPE_CHECKING

import click

from fsqueue.cli import exits
from fsqueue.cli.command import argument, flag, option, subcommand
from fsqueue.cli.options import APP_HELP
from fsqueue.cli.output import print_error
from fsqueue.environment.workdir import workdir
from fsqueue.errors import ConfigError, FSQueueError, SpoolReplacedError

if TYPE_CHECKING:
    from fsqueue.common.logs import LogFormat
    from fsqueue.config import RunnerKind

log = logging.getLogger(__name__)

# Seconds that the process may take to end after the worker has left.
_GOODBYE = 3.0


@subcommand("worker")
@argument("application", metavar="MODULE[:VARIABLE]", help=APP_HELP)
@option(
    "--runner",
    type=click.Choice(["thread", "process"]),
    metavar="thread|process",
    help="Run calls in threads or in processes (default: from the configuration).",
)
@option(
    "--concurrency",
    type=click.IntRange(min=1, max=99_999),
    metavar="NUMBER",
    help="Number of calls to run at once (default: from the configuration).",
)
@option(
    "--queue",
    multiple=True,
    metavar="NAME[=WEIGHT]",
    help="Queue to serve; repeat the option for several (default: 'default'). Without weights, "
    "earlier queues go first. With weights, the queues share the worker in that proportion.",
)
@option(
    "--resource",
    multiple=True,
    metavar="NAME=AMOUNT",
    help="Resource that this worker offers to calls, such as gpu=1 or mem=64G; repeat the option "
    "for several.",
)
@option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    metavar="text|json",
    help="Format of the log on standard error: text, in colour on a terminal, or one JSON object "
    "per line.",
)
@flag("--log-calls", help="Also log the start and the end of each call.")
def command(
    application: str,
    runner: RunnerKind | None,
    concurrency: int | None,
    queue: tuple[str, ...],
    resource: tuple[str, ...],
    log_format: LogFormat,
    log_calls: bool,
) -> None:
    """Run the calls of an application until stopped.

    On SIGTERM or Ctrl-C the worker starts no more calls and waits for those that are running.
    After FSQUEUE__STOP_GRACE seconds it gives back the ones that have not finished, and exits
    with code 0.

    On a second signal it gives them back at once. Other workers run them again.
    """
    from fsqueue.cli.discovery import find_app
    from fsqueue.common.logs import LogSetup, set_up
    from fsqueue.runner.processes.dedicated import dedicate_process
    from fsqueue.runner.processes.signals import catching

    dedicate_process()
    set_up(LogSetup(log_format, log_calls))
    # Like `python -m`: modules of the current folder come first.
    if (here := workdir()) is not None:
        sys.path.insert(0, str(here))
    try:
        # Signals are caught from here on, because importing the application may take a while.
        with catching():
            app = find_app(application)
            queues, weighted = _parse_queues(queue)
            app.make_runner(
                kind=runner,
                concurrency=concurrency,
                queues=queues,
                weighted=weighted,
                resources=" ".join(resource),
            ).run()
        _end_soon()
    except SpoolReplacedError as error:
        print_error(str(error))
        # Bodies in threads cannot be ended otherwise, and no caller can get their results.
        os._exit(exits.USAGE)
    except FSQueueError as error:
        print_error(str(error))
        raise click.exceptions.Exit(exits.USAGE) from error


def _end_soon() -> None:
    """Exit soon, even if bodies have started threads, for which Python would wait."""

    def end() -> None:
        log.warning("the process exits, although threads that bodies have started still run")
        os._exit(0)

    timer = threading.Timer(_GOODBYE, end)
    timer.daemon = True
    timer.start()


def _parse_queues(given: tuple[str, ...]) -> tuple[dict[str, float] | None, bool]:
    """Parse ``--queue``: the weight of each queue, and whether weights were given."""
    from fsqueue.spool.format.names import is_safe_name

    queues: dict[str, float] = {}
    weighted = any("=" in text for text in given)
    for text in given:
        name, _, weight = text.partition("=")
        try:
            queues[name] = float(weight) if weight else 1.0
        except ValueError:
            queues[name] = 0.0
        if not is_safe_name(name) or not 0 < queues[name] < float("inf"):
            raise ConfigError(
                f"--queue {text}: expected a name of letters, digits, '-' and '_', and a weight "
                "above 0 if there is one, like gpu or gpu=3"
            )
    return queues or None, weighted
