"""``fsqueue triggers``, ``fsqueue emit``."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from fsqueue.cli.output import moment, print_json, print_table
from fsqueue.cli.results import from_json, named_value
from fsqueue.cli.target import AppOption, JsonOption, env, find_target, reporting
from fsqueue.errors import ConfigError


def triggers(app: AppOption = None, as_json: JsonOption = False) -> None:
    """List what makes the tasks of an application run by itself.

    With the next tick of cron triggers, and the last one that was handled.
    """
    with reporting():
        target = find_target(app, None)
        if not target.named:
            raise ConfigError("triggers needs the application: give --app MODULE:VARIABLE")
        from fsqueue.spool.census import has_spool

        store = target.app.store if has_spool(target.root) else None
        try:
            rows = [
                {
                    "task": each.task,
                    "trigger": each.trigger,
                    "next": each.upcoming,
                    "handled": each.handled,
                }
                for each in target.app.triggers.overview(time.time(), store)
            ]
        finally:
            target.app.close()
    if as_json:
        print_json(rows)
        return
    print_table(
        ("task", "trigger", "next", "handled until"),
        [
            (row["task"], row["trigger"], _moment(row["next"]), _moment(row["handled"]))
            for row in rows
        ],
    )


def _moment(seconds: Any) -> str:
    return "-" if seconds is None else moment(seconds)


def emit(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The event.")],
    app: AppOption = None,
    payload: Annotated[
        str | None,
        typer.Option(metavar="JSON", envvar=env("emit-payload"), help="What goes with it."),
    ] = None,
    kwarg: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=JSON",
            envvar=env("emit-kwarg"),
            help="Instead of --payload: one item of a dict, for as many as are given.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Emit an event, and print its id. Tasks that are triggered by it will run.

    The payload is written in JSON. A text needs its quotes: --payload '"text"'.
    """
    with reporting():
        if payload is not None and kwarg:
            raise ConfigError("give --payload or --kwarg, not both")
        target = find_target(app, None)
        if not target.named:
            raise ConfigError("emit needs the application: give --app MODULE:VARIABLE")
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
