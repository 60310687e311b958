"""``fsqueue worker``."""

from __future__ import annotations

import logging
import os
import sys
from typing import Annotated

import typer

from fsqueue.cli.discovery import find_app
from fsqueue.config import RunnerKind  # noqa: TC001 - typer reads the annotations
from fsqueue.errors import FSQueueError

APP_HELP = "The application: MODULE, or MODULE:VARIABLE if the module has several."


def worker(
    application: Annotated[str, typer.Argument(metavar="MODULE[:VARIABLE]", help=APP_HELP)],
    runner: Annotated[
        RunnerKind | None,
        typer.Option(help="Run calls in threads or in processes; as configured if not given."),
    ] = None,
    concurrency: Annotated[
        int | None, typer.Option(min=1, help="Calls at a time; as configured if not given.")
    ] = None,
) -> None:
    """Run the pending calls of an application until it is stopped.

    SIGTERM or Ctrl-C: the running calls finish, or are given back after FSQUEUE__STOP_GRACE
    seconds, and the exit code is 0.

    A second signal: they are given back at once, to be run by another worker.
    """
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr
    )
    # As `python -m` does: the modules of the folder where the command is given come first.
    sys.path.insert(0, os.getcwd())
    try:
        app = find_app(application)
        app.make_runner(kind=runner, concurrency=concurrency).run()
    except FSQueueError as error:
        print(f"fsqueue: {error}", file=sys.stderr)
        raise typer.Exit(2) from error
