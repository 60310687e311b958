"""The ``fsqueue`` command."""

from __future__ import annotations

import typer

from fsqueue import __version__
from fsqueue.cli import calls, control, results, settings, stats, status, triggers
from fsqueue.cli.doctor import doctor
from fsqueue.cli.logs import logs
from fsqueue.cli.metrics import metrics
from fsqueue.cli.output import print_json
from fsqueue.cli.requeue import requeue
from fsqueue.cli.target import JsonOption  # noqa: TC001 - typer reads the annotations
from fsqueue.cli.worker import worker

app = typer.Typer(
    name="fsqueue",
    help="Run functions of other processes, with nothing but a shared directory.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    # Plain text: help pages are the same on every terminal, and can be read in a log.
    rich_markup_mode=None,
)


def version(as_json: JsonOption = False) -> None:
    """Print the version."""
    if as_json:
        print_json({"version": __version__})
    else:
        print(__version__)


app.command()(worker)
app.command()(doctor)
app.command()(status.status)
app.command()(status.top)
app.command()(status.workers)
app.command()(stats.stats)
app.command()(metrics)
app.command(name="list")(calls.list_calls)
for command in (
    calls.show,
    logs,
    results.wait,
    results.result,
    results.submit,
    triggers.emit,
    triggers.triggers,
    control.cancel,
    control.retry,
    requeue,
    control.pause,
    control.resume,
    control.purge,
    control.drain,
    control.gc,
    settings.config,
    version,
):
    app.command()(command)
