"""``fsqueue submit``."""

from __future__ import annotations

import json
import re
import shlex
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from fsqueue.cli import completion
from fsqueue.cli.answers import print_result
from fsqueue.cli.command import argument, flag, option, subcommand
from fsqueue.cli.finding.target import NotFoundError, Target, find_application, report_errors
from fsqueue.cli.json_values import free_arguments, from_json, named_value
from fsqueue.cli.options import app_option, json_option, timeout_option
from fsqueue.cli.output import print_json
from fsqueue.errors import ConfigError, TaskNotFoundError

if TYPE_CHECKING:
    from fsqueue.task import Task


@subcommand(
    "submit",
    "submit render sales --pages 3",
    "submit tasks.render sales --wait --timeout 5m",
    "submit render --arg '\"3\"' --kwarg pages=3",
    "submit render -- sales --timeout 3",
    # Options that this command does not have are arguments of the task.
    context_settings={"ignore_unknown_options": True},
)
@argument(
    "task",
    shell_complete=completion.short_tasks,
    metavar="TASK",
    help="The task: FUNC, or MODULE.FUNC if that is ambiguous.",
)
@argument(
    "words",
    nargs=-1,
    type=click.UNPROCESSED,
    metavar="[VALUE | --NAME VALUE]...",
    help="Arguments of the task, in JSON; anything that is not JSON is a text.",
)
@app_option
@option("--arg", multiple=True, metavar="JSON", help="Positional argument; repeat for several.")
@option("--kwarg", multiple=True, metavar="NAME=JSON", help="Keyword argument; repeat for several.")
@flag("--wait", "wait_for_it", help="Wait for the result, and print it as `result` does.")
@timeout_option()
@json_option
def command(
    task: str,
    words: tuple[str, ...],
    app: str | None,
    arg: tuple[str, ...],
    kwarg: tuple[str, ...],
    wait_for_it: bool,
    timeout: float | None,
    as_json: bool,
) -> None:
    """Call a task, and print the id of the call.

    VALUE is a positional argument of the task, and --NAME VALUE a named one. 3, true, null and
    [1, 2] are JSON, and sales is a text. With --arg and --kwarg all values are JSON, and a text
    needs its quotes. After `--`, everything is for the task, even if it looks like an option of
    this command.
    """
    with report_errors():
        target = find_application(app)
        try:
            found = _find_task(target, task)
            _check_names(found)
            args, kwargs = free_arguments(words)
            _check_texts(found, args)
            args += [from_json("--arg ", text) for text in arg]
            kwargs |= dict(map(named_value, kwarg))
            invocation_id = _make_call(found, args, kwargs)
            if wait_for_it:
                code = print_result(target, invocation_id, timeout, as_json=as_json)
                raise click.exceptions.Exit(code)
        finally:
            target.app.close()
        if as_json:
            print_json({"id": invocation_id})
        else:
            print(invocation_id)


def _check_names(task: Task[..., Any]) -> None:
    """Refuse an option of this command that may have been meant for the task.

    Raises:
        ConfigError: the command line has one that is also the name of a parameter of the task.
    """
    context = click.get_current_context()
    for own in context.command.params:
        name = own.opts[0].removeprefix("--")
        given = context.get_parameter_source(str(own.name)) is ParameterSource.COMMANDLINE
        if given and isinstance(own, click.Option) and name in task.signature.parameters:
            raise ConfigError(
                f"--{name} is an option of submit, and {name} a parameter of {task.name}. For the "
                f"task, write it after `--`: fsqueue submit {task.func.__name__} -- --{name} VALUE."
                f" For submit, set {own.envvar}."
            )


def _check_texts(task: Task[..., Any], args: list[Any]) -> None:
    """Refuse texts like ``pages=3`` and ``-p``, which were meant to be ``--pages``.

    Raises:
        ConfigError: a text begins with the name of a parameter and ``=``, or is a short option.
    """
    for text in [each for each in args if isinstance(each, str)]:
        name, equals, value = text.partition("=")
        for_text = f"for the text itself --arg {shlex.quote(json.dumps(text))}"
        if equals and name in task.signature.parameters:
            raise ConfigError(
                f"{text}: for the parameter {name} write --{name} {shlex.quote(value)}, and "
                f"{for_text}"
            )
        if re.fullmatch("-[A-Za-z]", text):
            raise ConfigError(f"{text}: for a parameter write --NAME VALUE, and {for_text}")


def _make_call(task: Task[..., Any], args: list[Any], kwargs: dict[str, Any]) -> str:
    if task.conf.dev_mode_force_sync_tasks:
        raise ConfigError("dev_mode_force_sync_tasks is set: the call would run here. Unset it.")
    try:
        call = task.bind(tuple(args), kwargs)
    except TypeError as error:
        expected = f"{task.func.__name__}{task.signature}"
        raise ConfigError(f"{error}. The task is {expected}") from error
    return task.submit(call.args, call.kwargs).id


def _find_task(target: Target, name: str) -> Task[..., Any]:
    tasks = target.app.tasks
    if name not in tasks and "." in name:
        try:
            target.app.resolve(name)
        except TaskNotFoundError as error:
            raise NotFoundError(str(error)) from error
    found = [each for key, each in tasks.items() if key == name or key.endswith(f".{name}")]
    if len(found) != 1:
        there = ", ".join(tasks) or "none"
        raise NotFoundError(f"which task is {name!r}? {target.app.app_id} has: {there}")
    return found[0]
