"""Options that several commands share, and the durations that options accept."""

from __future__ import annotations

import functools
import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from fsqueue.cli import completion
from fsqueue.cli.command import Decorator, argument, env, flag, option
from fsqueue.cli.finding.target import open_target, report_errors
from fsqueue.common.values import LONGEST, parse_duration
from fsqueue.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

_APP_HELP: Final = "The application: MODULE, or MODULE:VARIABLE if the module has several."

application_argument: Decorator = argument(
    "application",
    shell_complete=completion.applications,
    metavar="[MODULE[:VARIABLE]]",
    required=False,
    help=_APP_HELP,
)
app_option: Decorator = option(
    "--app",
    metavar="MODULE[:VARIABLE]",
    envvar=env("app"),
    is_setting=True,
    shell_complete=completion.applications,
    help=_APP_HELP,
)
root_option: Decorator = option(
    "--root",
    type=click.Path(path_type=Path),
    metavar="DIR",
    envvar=env("root"),
    is_setting=True,
    help="The shared directory (spool) to use instead of an application's.",
)


def on_target(function: Callable[..., None]) -> Callable[..., None]:
    """Add --app and --root to a command, whose function gets their `Target` instead.

    An error in the function ends with a message and an exit code; see `open_target`.
    """

    @functools.wraps(function)
    def run(app: str | None, root: Path | None, **given: Any) -> None:
        with open_target(app, root) as target:
            function(target, **given)

    return app_option(root_option(run))


def needs(module: str, extra: str, who: str) -> Decorator:
    """Check that a package is installed before the command looks for its target.

    Args:
        module: what is imported.
        extra: the extra of this project that installs it.
        who: whom the message names, with the verb: "the monitor needs".
    """

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def run(**given: Any) -> None:
            with report_errors():
                try:
                    importlib.import_module(module)
                except ImportError as error:
                    raise ConfigError(
                        f"{who} a package that is missing here ({error}): "
                        f"pip install 'fsqueue-tasks[{extra}]'"
                    ) from error
            function(**given)

        return run

    return decorate


json_option: Decorator = flag(
    "--json", "as_json", envvar=env("json"), help="Print one JSON document."
)
yes_option: Decorator = flag("--yes", "-y", envvar=env("yes"), help="Do not ask for confirmation.")
id_argument: Decorator = argument(
    "invocation_id",
    metavar="ID",
    shell_complete=completion.calls("running", "pending", "failed", "ended"),
    help="Id of the call.",
)
queue_argument: Decorator = argument(
    "queue",
    metavar="QUEUE",
    shell_complete=completion.queues,
    help="The queue: NAME, or APPLICATION.NAME if that is ambiguous.",
)


def ids_argument(*states: str, help: str, required: bool = True) -> Decorator:  # noqa: A002
    """The ids of several calls, ``invocation_ids``.

    Args:
        states: the states in which completion looks for calls.
        help: one sentence.
        required: whether at least one id must be given.
    """
    return argument(
        "invocation_ids",
        nargs=-1,
        required=required,
        shell_complete=completion.calls(*states),
        metavar="ID..." if required else "[ID...]",
        help=help,
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


def timeout_option(**attributes: Any) -> Decorator:
    """The option --timeout, with more attributes for one command."""
    return option(
        "--timeout",
        type=seconds(),
        metavar="DURATION",
        envvar=env("timeout"),
        help="Longest time to wait: 90, 15m, 2h, 7d. After it, the exit code is 4.",
        **attributes,
    )
