"""``fsqueue emit``."""

from __future__ import annotations

from typing import Any

from fsqueue.cli.command import argument, option, subcommand
from fsqueue.cli.finding.target import find_application, report_errors
from fsqueue.cli.json_values import from_json, named_value
from fsqueue.cli.options import app_option, json_option
from fsqueue.cli.output import print_json
from fsqueue.errors import ConfigError


@subcommand("emit", "emit paid --kwarg order=7", "emit nightly --payload '[1, 2]'")
@argument("name", metavar="NAME", help="Name of the event.")
@app_option
@option("--payload", metavar="JSON", help="Value that the event carries.")
@option(
    "--kwarg",
    multiple=True,
    metavar="NAME=JSON",
    help="One item of a payload that is a dict, instead of --payload; repeat for several.",
)
@json_option
def command(
    name: str, app: str | None, payload: str | None, kwarg: tuple[str, ...], as_json: bool
) -> None:
    """Emit an event, and print its id.

    The tasks that the event triggers will run. The payload is JSON. A text needs its quotes:
    --payload '"text"'.
    """
    with report_errors():
        if payload is not None and kwarg:
            raise ConfigError("give --payload or --kwarg, not both")
        target = find_application(app)
        if target.app.conf.dev_mode_force_sync_tasks:
            raise ConfigError("dev_mode_force_sync_tasks is set: tasks would run here. Unset it.")
        value: Any = dict(map(named_value, kwarg)) if kwarg else None
        if payload is not None:
            value = from_json("--payload ", payload)
        try:
            event_id = _emitted(target.app, name, value)
        finally:
            target.app.close()
    if as_json:
        print_json({"id": event_id})
    else:
        print(event_id)


def _emitted(app: Any, name: str, value: Any) -> str:
    try:
        event_id: str = app.emit(name, value)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    return event_id
