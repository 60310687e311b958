"""``fsqueue worker``."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from fsqueue.cli.discovery import find_app
from fsqueue.cli.target import APP_HELP, env
from fsqueue.config import RunnerKind
from fsqueue.errors import ConfigError, FSQueueError
from fsqueue.logs import LogFormat, LogSetup, set_up
from fsqueue.spool.names import is_safe_name
from fsqueue.workdir import workdir

_Application = Annotated[str, typer.Argument(metavar="MODULE[:VARIABLE]", help=APP_HELP)]
_Runner = Annotated[
    RunnerKind | None,
    typer.Option(
        metavar="thread|process",
        envvar=env("worker-runner"),
        help="Run calls in threads or in processes; as configured if not given.",
    ),
]
_Concurrency = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="NUMBER",
        envvar=env("worker-concurrency"),
        help="Calls at a time; as configured if not given.",
    ),
]
_Queues = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME[=WEIGHT]",
        envvar=env("worker-queue"),
        help="A queue to serve, for as many as are given; 'default' if none is. An earlier "
        "one goes first, but with weights they take turns in proportion.",
    ),
]
_Resources = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=AMOUNT",
        envvar=env("worker-resource"),
        help="What this worker has for calls whose task needs it, like gpu=1 or mem=64G; as "
        "many as you like.",
    ),
]
_LogFormat = Annotated[
    LogFormat,
    typer.Option(
        metavar="text|json",
        envvar=env("worker-log-format"),
        help="The log on standard error: text, coloured on a terminal, or a JSON object a line.",
    ),
]
_LogCalls = Annotated[
    bool,
    typer.Option(
        "--log-calls",
        envvar=env("worker-log-calls"),
        help="Log each call as it starts and as it ends, too.",
    ),
]


def worker(
    application: _Application,
    runner: _Runner = None,
    concurrency: _Concurrency = None,
    queue: _Queues = None,
    resource: _Resources = None,
    log_format: _LogFormat = "text",
    log_calls: _LogCalls = False,
) -> None:
    """Run the pending calls of an application until it is stopped.

    SIGTERM or Ctrl-C: the running calls finish, or are given back after FSQUEUE__STOP_GRACE
    seconds, and the exit code is 0.

    A second signal: they are given back at once, to be run by another worker.
    """
    set_up(LogSetup(log_format, log_calls))
    # As `python -m` does: the modules of the folder where the command is given come first.
    if (here := workdir()) is not None:
        sys.path.insert(0, str(here))
    try:
        app = find_app(application)
        queues, weighted = _parse_queues(queue or [])
        app.make_runner(
            kind=runner,
            concurrency=concurrency,
            queues=queues,
            weighted=weighted,
            resources=" ".join(resource or []),
        ).run()
    except FSQueueError as error:
        print(f"fsqueue: {error}", file=sys.stderr)
        raise typer.Exit(2) from error


def _parse_queues(given: list[str]) -> tuple[dict[str, float] | None, bool]:
    """Names with weights, and whether weights were given."""
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
