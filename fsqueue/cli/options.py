"""Options that several commands share, and the durations that options accept."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from fsqueue.cli import completion
from fsqueue.cli.command import argument, env, flag, option
from fsqueue.common.values import LONGEST, parse_duration

if TYPE_CHECKING:
    from collections.abc import Callable

APP_HELP: Final = "The application: MODULE, or MODULE:VARIABLE if the module has several."

app_option = option(
    "--app",
    metavar="MODULE[:VARIABLE]",
    envvar=env("app"),
    is_setting=True,
    shell_complete=completion.applications,
    help=APP_HELP,
)
root_option = option(
    "--root",
    type=click.Path(path_type=Path),
    metavar="DIR",
    envvar=env("root"),
    is_setting=True,
    help="The shared directory (spool) to use instead of an application's.",
)
json_option = flag("--json", "as_json", envvar=env("json"), help="Print one JSON document.")
yes_option = flag("--yes", "-y", envvar=env("yes"), help="Do not ask for confirmation.")
id_argument = argument(
    "invocation_id",
    metavar="ID",
    shell_complete=completion.calls("running", "pending", "failed", "ended"),
    help="Id of the call.",
)
queue_argument = argument(
    "queue",
    metavar="QUEUE",
    shell_complete=completion.queues,
    help="The queue: NAME, or APPLICATION.NAME if that is ambiguous.",
)


def seconds(*, least: float = 0.0, most: float = LONGEST) -> Callable[[str | float], float]:
    """The type of an option that is a duration: ``90``, ``90s``, ``15m``, ``2h`` or ``7d``.

    Args:
        least: shortest duration that is accepted, in seconds.
        most: longest duration that is accepted, in seconds.
    """

    def convert(value: str | float) -> float:
        text = str(value)
        found = parse_duration(text)
        if found is None:
            raise click.BadParameter(
                f"{text!r} is not a duration of at most 100 years, such as 90, 15m, 2h or 7d"
            )
        if not least <= found <= most:
            above = "" if most == LONGEST else f" and at most {most:g} s"
            raise click.BadParameter(f"{text!r} is out of range: at least {least:g} s{above}")
        return found

    return convert


timeout_option = partial(
    option,
    "--timeout",
    type=seconds(),
    metavar="DURATION",
    envvar=env("timeout"),
    help="Longest time to wait: 90, 15m, 2h, 7d. After it, the exit code is 4.",
)
