"""``fsqueue result``."""

from __future__ import annotations

import click

from fsqueue.cli.answers import print_result
from fsqueue.cli.command import subcommand
from fsqueue.cli.finding.target import Target, check_id
from fsqueue.cli.options import id_argument, json_option, on_target, timeout_option


@subcommand("result", "result jq3v8k2m5c-7", "result jq3v8k2m5c-7 --timeout 5m --json")
@id_argument
@on_target
@timeout_option(default="0")
@json_option
def command(target: Target, invocation_id: str, timeout: float, as_json: bool) -> None:
    """Print the result of a call that has ended.

    The result is printed as Python shows it (its repr), and with --json as JSON, where a part that
    JSON does not know is replaced by its repr. If the call failed, its traceback goes to standard
    error and the exit code is 1. If it has not ended, the exit code is 4.

    To print it, this command unpickles the result, which can run code that the result names,
    unless the task's serializer is json.
    """
    check_id(invocation_id)
    code = print_result(target, invocation_id, timeout, as_json=as_json)
    raise click.exceptions.Exit(code)
