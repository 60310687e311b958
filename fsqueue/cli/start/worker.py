"""``fsqueue worker``."""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from fsqueue.cli import exits
from fsqueue.cli.command import env, option, subcommand
from fsqueue.cli.options import app_option, application_argument
from fsqueue.cli.output import print_error
from fsqueue.cli.start.private_root import private_root_notice
from fsqueue.cli.start.worker_options import runner_options, worker_options
from fsqueue.config import PREFIX
from fsqueue.errors import ConfigError, FSQueueError, SpoolReplacedError

if TYPE_CHECKING:
    from fsqueue.cli.finding.discovery import Application
    from fsqueue.common.logs import LogFormat

log: logging.Logger = logging.getLogger(__name__)

BY_VALUE: Final = "fsqueue.executor.application:app"
# Seconds that the process may take to end after the worker has left.
_GOODBYE = 3.0


@subcommand(
    "worker",
    "worker",
    "worker tasks:app --runner process --concurrency 8",
    "worker --queue gpu=3 --queue default=1 --gpus auto",
)
@application_argument
@app_option
@option(
    "--root",
    type=click.Path(path_type=Path),
    metavar="DIR",
    envvar=env("root"),
    is_setting=True,
    help="The shared directory. Without an application, run the calls of fsqueue.Executor there.",
)
@worker_options
def command(
    application: str | None,
    app: str | None,
    root: Path | None,
    log_format: LogFormat,
    log_calls: bool,
    **options: Any,
) -> None:
    """Run the calls of an application until stopped.

    On SIGTERM or Ctrl-C the worker starts no more calls and waits for those that are running.
    After FSQUEUE__STOP_GRACE seconds it gives back the ones that have not finished, and exits
    with code 0.

    On a second signal it gives them back at once. Other workers run them again.

    In a batch job it leaves before the job ends: it claims only calls that fit, and gives back
    those that still run in the last seconds.
    """
    from fsqueue.cli.finding.discovery import one_name
    from fsqueue.common.logs import LogSetup, set_up
    from fsqueue.runner.processes.dedicated import dedicate_process
    from fsqueue.runner.processes.job import RESTART, SUPERVISOR
    from fsqueue.runner.processes.signals import catching

    dedicate_process()
    set_up(LogSetup(log_format, log_calls))
    try:
        # Signals are caught from here on, because importing the application may take a while.
        with catching():
            found = _find(one_name(application, app), root)
            if found.origin:
                log.info("application %s, %s", found.name, found.origin)
            runner = found.app.make_runner(**runner_options(options))
            if notice := private_root_notice(found.app):
                log.info("%s", notice)
            runner.run()
        # Without a supervisor, no process checks for this code, and it would look like a failure.
        replace = runner.reason == "max-tasks" and SUPERVISOR in os.environ
        _end_soon(RESTART if replace else exits.OK)
    except SpoolReplacedError as error:
        print_error(str(error))
        # Bodies in threads cannot be ended otherwise, and no caller can get their results.
        os._exit(exits.USAGE)
    except FSQueueError as error:
        print_error(str(error))
        raise click.exceptions.Exit(exits.USAGE) from error


def _find(name: str | None, root: Path | None) -> Application:
    """The application to run: the named one, the one in the folder, or that of executors.

    Raises:
        ConfigError: there is none, or it has another root.
    """
    from fsqueue.cli.finding.discovery import discover

    if root is None:
        return discover(name)
    # The application reads it when it is imported, and so do the slots of the worker.
    os.environ[f"{PREFIX}ROOT"] = os.path.abspath(root)
    found = discover(BY_VALUE if name is None else name)
    if os.path.abspath(found.app.root) != os.path.abspath(root):
        raise ConfigError(
            f"--root {root}: {found.name} chooses {found.app.root} itself, with FSQueue(root=...)"
        )
    return found


def _end_soon(code: int) -> None:
    """Exit soon, even if bodies have started threads, for which Python would wait."""

    def end() -> None:
        log.warning("the process exits, although threads that bodies have started still run")
        os._exit(code)

    timer = threading.Timer(_GOODBYE, end)
    timer.daemon = True
    timer.start()
    if code:
        raise click.exceptions.Exit(code)
