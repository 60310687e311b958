"""``fsqueue up``."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, Final

import click

from fsqueue.cli.command import flag, option, subcommand
from fsqueue.cli.finding.target import report_errors
from fsqueue.cli.options import app_option, application_argument, root_option
from fsqueue.cli.output import print_error
from fsqueue.cli.start.private_root import private_root_notice
from fsqueue.cli.start.profiles import find_served
from fsqueue.cli.start.worker_options import as_words, runner_options, worker_options
from fsqueue.common.printable import counted
from fsqueue.errors import FSQueueError
from fsqueue.launch.supervisor import MOST_WORKERS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from fsqueue.cli.finding.target import Target
    from fsqueue.launch.local import LocalJob
    from fsqueue.launch.supervisor import Supervisor

# Seconds between two checks whether the workers were stopped with `fsqueue fleet stop`.
_CHECK: Final = 1.0
_LOOK: Final = 0.05


@subcommand("up", "up -n 4", "up --app tasks --runner process --detach")
@application_argument
@app_option
@root_option
@option(
    "--count",
    "-n",
    type=click.IntRange(min=1, max=MOST_WORKERS),
    default=1,
    metavar="NUMBER",
    help="Workers to run.",
)
@flag("--detach", help="Run them in the background, even after this terminal is closed.")
@worker_options
def command(
    application: str | None,
    app: str | None,
    root: Path | None,
    count: int,
    detach: bool,
    **options: Any,
) -> None:
    """Run workers on this machine, and replace those that die.

    Ctrl-C or SIGTERM drains all of them; a second one gives their calls back at once. A worker
    that fails repeatedly is replaced after longer and longer pauses. A worker that leaves by
    itself, because it is idle or was drained, is not replaced.

    With --detach, `fsqueue fleet stop local` ends the workers, from any host.
    """
    with report_errors():
        from fsqueue.cli.finding.discovery import one_name

        target = find_served(one_name(application, app), root)
        try:
            words, name = as_words(options), target.app.locate()
            if detach:
                _detach(target, name, count, words)
                return
            raise click.exceptions.Exit(_supervise(target, name, count, words, options))
        finally:
            target.app.close()


def _supervise(
    target: Target, name: str, count: int, words: list[str], options: Mapping[str, Any]
) -> int:
    from fsqueue.launch.local import LocalJob
    from fsqueue.launch.supervisor import Supervisor, worker_command

    app, given = target.app, runner_options(options)
    runner = app.make_runner(**given)  # which checks the options
    if notice := private_root_notice(app):
        print_error(notice)
    queues = list(given["queues"] or {"default": 1.0})
    slots = count * runner.slots
    job = LocalJob(app.store.files, app.app_id, queues, slots)
    supervisor = Supervisor(worker_command(name, words), count, {"FSQUEUE__ROOT": target.root})
    with _passing_signals_on(supervisor), _joined(job):
        return supervisor.run(job.beat, every=_CHECK)


@contextlib.contextmanager
def _joined(job: LocalJob) -> Iterator[None]:
    job.join()
    try:
        yield
    finally:
        job.leave()


@contextlib.contextmanager
def _passing_signals_on(supervisor: Supervisor) -> Iterator[None]:
    """Stop the workers on signals that end a worker; pass on those that warn it."""

    def stop(number: int, _frame: object) -> None:
        supervisor.stop(signal.SIGQUIT if number == signal.SIGQUIT else signal.SIGTERM)

    def forward(number: int, _frame: object) -> None:
        supervisor.forward(number)

    stops = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
    warnings = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU)
    handlers = {**dict.fromkeys(stops, stop), **dict.fromkeys(warnings, forward)}
    before = {
        number: signal.signal(number, handler)
        for number, handler in handlers.items()
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)


def _detach(target: Target, name: str, count: int, words: list[str]) -> None:
    """Start this command again in the background, and wait until it has joined the fleet."""
    from fsqueue.launch.fleet import Fleet
    from fsqueue.launch.local import LOCAL, job_id

    if notice := private_root_notice(target.app):
        print_error(notice)
    store = target.app.store
    fleet = Fleet(store.files, LOCAL)
    store.files.make_folders(fleet.files.logs)
    log = f"{fleet.files.logs}/{job_id(os.getpid())}.log"
    command_line = [sys.executable, "-m", "fsqueue", "up", name, "--count", str(count), *words]
    with open(log, "ab") as output:
        process = subprocess.Popen(  # noqa: S603 - our own command
            command_line,
            env={**os.environ, "FSQUEUE__ROOT": target.root},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    wanted = job_id(process.pid)
    while not any(job.id == wanted for job in fleet.sightings()):
        if process.poll() is not None:
            raise FSQueueError(f"it ended with exit code {process.returncode}: see {log}")
        time.sleep(_LOOK)
    print(
        f"{counted(count, 'worker')} in the background ({wanted}); `fsqueue fleet stop local` ends "
        f"them. Log: {log}"
    )
