"""The options of a worker, for ``fsqueue worker`` and for commands that start workers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from fsqueue.cli.command import flag, option, subcommand
from fsqueue.cli.options import seconds
from fsqueue.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fsqueue.runner.loop.runner import RunnerOptions

_LARGEST_CONCURRENCY: Final = 99_999
MOST_TASKS: Final = 1_000_000_000


def _duration_or(*words: str) -> Callable[[Any], str | float]:
    """The type of an option that is one of some words, or a duration above 0."""
    duration = seconds()

    def convert(value: Any) -> str | float:
        text = str(value).strip().lower()
        if text in words:
            return text
        try:
            return duration(text)
        except click.BadParameter as error:
            others = " or ".join(words)
            raise click.BadParameter(f"{error.message}; {others} is valid, too") from error

    return convert


def _concurrency(value: Any) -> str | int:
    text = str(value).strip().lower()
    if text == "cores":
        return text
    if text.isdecimal() and 1 <= int(text) <= _LARGEST_CONCURRENCY:
        return int(text)
    raise click.BadParameter(
        f"{value!r}: expected a number from 1 to {_LARGEST_CONCURRENCY}, or cores"
    )


WORKER_OPTIONS: Final = (
    option(
        "--runner",
        type=click.Choice(["thread", "process"]),
        metavar="thread|process",
        help="Run calls in threads or in processes (default: from the configuration).",
    ),
    option(
        "--concurrency",
        type=_concurrency,
        metavar="NUMBER|cores",
        help="Number of calls to run at once (default: from the configuration). cores: the number "
        "of processors that this process, or its batch job, may use on this machine.",
    ),
    option(
        "--queue",
        multiple=True,
        metavar="NAME[=WEIGHT]",
        help="Queue to serve; repeat the option for several (default: 'default'). Without weights, "
        "earlier queues go first. With weights, the queues share the worker in that proportion.",
    ),
    option(
        "--resource",
        multiple=True,
        metavar="NAME=AMOUNT",
        help="Resource that this worker offers to calls, such as gpu=1 or mem=64G; repeat the "
        "option for several. mem=auto: the memory that its batch job or cgroup has.",
    ),
    option(
        "--gpus",
        default="none",
        metavar="auto|LIST|none",
        help="GPUs that this worker lends to calls that need the resource gpu. auto: those that "
        "the batch system has given to the job. LIST: names, such as 0,1.",
    ),
    option(
        "--time-limit",
        type=_duration_or("auto", "none"),
        default="auto",
        metavar="auto|DURATION|none",
        help="Leave before this time is over, and claim only calls that fit. auto: when the batch "
        "job ends, if this runs in one.",
    ),
    option(
        "--stop-margin",
        type=_duration_or("auto"),
        default="auto",
        metavar="auto|DURATION",
        help="Claim nothing within this time before the end. auto: chosen from calls' run times.",
    ),
    option(
        "--idle-timeout",
        type=_duration_or("none"),
        default="none",
        metavar="DURATION|none",
        help="Leave after having had no call for this long.",
    ),
    option(
        "--max-tasks",
        type=click.IntRange(min=1, max=MOST_TASKS),
        metavar="NUMBER",
        help="Leave after this many calls. Under `fsqueue up` another worker takes over.",
    ),
    flag("--until-empty", help="Leave when no call in the queues is due."),
    flag(
        "--executor",
        help="Also run the calls of fsqueue.Executor, which may be any code: see docs/security.md.",
    ),
    option(
        "--log-format",
        type=click.Choice(["text", "json"]),
        default="text",
        metavar="text|json",
        help="Format of the log on standard error: text, in colour on a terminal, or one JSON "
        "object per line.",
    ),
    flag("--log-calls", help="Also log the start and the end of each call."),
)
"""The options, in the order of the help page."""


def worker_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command all options of a worker."""
    for each in reversed(WORKER_OPTIONS):
        command = each(command)
    return command


def runner_options(given: Mapping[str, Any]) -> RunnerOptions:
    """The arguments of `FSQueue.make_runner`, from the values of these options.

    Raises:
        ConfigError: a queue is invalid.
    """
    queues, weighted = _parse_queues(given["queue"])
    return {
        "kind": given["runner"],
        "concurrency": given["concurrency"],
        "queues": queues,
        "weighted": weighted,
        "resources": " ".join(given["resource"]),
        "gpus": given["gpus"],
        "time_limit": given["time_limit"],
        "stop_margin": given["stop_margin"],
        "idle_timeout": given["idle_timeout"],
        "max_tasks": given["max_tasks"],
        "until_empty": given["until_empty"],
        "executor": given["executor"],
    }


def as_words(given: Mapping[str, Any]) -> list[str]:
    """The flags of a worker's command line, from the values of these options.

    Defaults are left out.
    """
    worker = subcommand("worker")(worker_options(lambda: None))
    words: list[str] = []
    for parameter in worker.params:
        value, name = given.get(str(parameter.name)), parameter.opts[0]
        if value is None or value is False or value == parameter.default:
            continue
        if value is True:
            words.append(name)
        else:
            values = value if parameter.multiple else (value,)
            words += [word for each in values for word in (name, str(each))]
    return words


def _parse_queues(given: tuple[str, ...]) -> tuple[dict[str, float] | None, bool]:
    """The weight of each queue, and whether weights were given."""
    from fsqueue.spool.format.names import is_safe_name

    queues: dict[str, float] = {}
    weighted = any("=" in text for text in given)
    for text in given:
        name, _, weight = text.partition("=")
        try:
            queues[name] = float(weight) if weight else 1.0
        except ValueError:
            queues[name] = 0.0
        if not is_safe_name(name) or not 0 < queues[name] < float("inf"):
            raise ConfigError(
                f"--queue {text}: expected a name of letters, digits, '-' and '_', and a weight "
                "above 0 if there is one, like gpu or gpu=3"
            )
    return queues or None, weighted
