"""Help pages, docs/cli.md and docs/environment.md, from the commands and settings themselves.

``python tests/cli_reference.py`` writes them anew.
"""

from __future__ import annotations

import functools
import inspect
from collections import Counter
from pathlib import Path

from click import Context, Group, Option
from click.testing import CliRunner
from configuration_reference import shown

from fsqueue.calls.options import CallSettings
from fsqueue.cli.command import former_env
from fsqueue.cli.exits import MEANINGS
from fsqueue.cli.main import command_line
from fsqueue.common.fields import describe
from fsqueue.config import PREFIX, TASK_PREFIX, fields

HERE = Path(__file__).resolve().parent
GOLDEN = HERE / "acceptance" / "golden"
PAGE = HERE.parent / "docs" / "cli.md"
WIDTH = 78

_HEAD = """# Command line

`python tests/cli_reference.py` writes this page from the commands themselves. [Operating](operating.md)
shows how to use them.

Each flag can also be set by an [environment variable](environment.md), which counts if the flag is not
given. The items of a list are separated by spaces there.
"""  # noqa: E501 - lines of the page, not of code

VARIABLES = HERE.parent / "docs" / "environment.md"
_VARIABLES_HEAD = """# Environment variables

`python tests/cli_reference.py` writes this page from the settings and commands themselves.

All variables of settings, task options and flags begin with `FSQUEUE__`. An empty one counts as unset.
An argument of `FSQueue` and a flag on the command line have precedence over the environment, and the
environment over [the file](configuration.md). `FSQUEUE__ROOT` is a setting: the application named by `--app`
or `FSQUEUE__APP` uses it too.
"""  # noqa: E501
OTHERS = {
    "FSQUEUE_SITE_CONFIG": "file with the launch profiles of the site, instead of "
    "`/etc/fsqueue/launch.toml`: see [Batch systems](batch/README.md)",
    "FSQUEUE_JOB_UNTIL": "when the batch job ends, in seconds since 1970: see "
    "[Workers in batch jobs](operating.md#workers-in-batch-jobs)",
    "FSQUEUE_SUPERVISOR": "process id of the supervisor that replaces this worker; set by "
    "`fsqueue up`",
    "FSQUEUE_JOB_NODE": "number of the node in a batch job; set by the scripts of `fsqueue launch`",
    "FSQUEUE_FLEET": "fleet that the batch job belongs to; set by the scripts of `fsqueue launch`",
    "FSQUEUE_FLEET_TOKEN": "which submission the batch job comes from; set by the scripts of "
    "`fsqueue launch`",
    "FSQUEUE_WORKER_PROCESS": "process id of the worker; set by the worker for its slots",
    "_FSQUEUE_COMPLETE": "what a shell asks for completion; set by the scripts of "
    "`fsqueue completion`",
}
"""Variables that are no settings and no flags."""


def commands():
    """The commands by name, in the order of the help page."""
    context = Context(command_line)
    found = {}
    for name in command_line.list_commands(context):
        command = command_line.get_command(context, name)
        found[name] = command
        if isinstance(command, Group):
            found |= {f"{name} {each}": sub for each, sub in command.commands.items()}
    return found


@functools.cache
def help_page(name=""):
    """What ``--help`` prints, of a command or of all."""
    arguments = [*name.split(), "--help"]
    done = CliRunner().invoke(command_line, arguments, prog_name="fsqueue", terminal_width=WIDTH)
    assert done.exit_code == 0, done.output
    return done.stdout


def help_pages():
    """File names and contents of the golden files."""
    return {f"{file_of(name)}.txt": help_page(name) for name in ["", *commands()]}


def file_of(name):
    """The name of a golden file, without its ending."""
    return name.replace(" ", "-") or "fsqueue"


def reference():
    """The content of docs/cli.md."""
    parts = [_HEAD, "| exit code | meaning |\n|---|---|"]
    parts[1] += "".join(f"\n| {code} | {meaning} |" for code, meaning in MEANINGS.items())
    for name, command in commands().items():
        parts += [f"\n## fsqueue {name}\n", inspect.cleandoc(command.help), *_table(command)]
        parts += ["\n```text", *command.examples, "```"] if command.examples else []
    return "\n".join(parts) + "\n"


def variables():
    """The content of docs/environment.md."""
    flags = [
        (name, parameter)
        for name, command in commands().items()
        for parameter in command.params
        if isinstance(parameter, Option) and parameter.envvar
    ]
    uses = Counter(parameter.envvar for _, parameter in flags)
    shared = {p.envvar: p for _, p in flags if uses[p.envvar] > 1 and p.envvar != f"{PREFIX}ROOT"}
    own = [(name, p) for name, p in flags if uses[p.envvar] == 1]
    return "\n".join(
        [
            _VARIABLES_HEAD,
            "## Settings\n\n[Configuration](configuration.md) explains each.\n",
            *_rows(
                (f"{PREFIX}{name.upper()}", shown(field.default), field.description)
                for name, field in fields().items()
            ),
            "\n## Task options\n",
            "These hold for all tasks. For one task, put its module and name in between:",
            "`FSQUEUE__TASK__TASKS__RENDER__TIMEOUT` is the timeout of `tasks.render`. See",
            "[Tasks](tasks.md).\n",
            *_rows(
                (f"{TASK_PREFIX}{name.upper()}", shown(field.default), field.description)
                for name, field in describe(CallSettings).items()
            ),
            "\n## Flags of all commands that have them\n",
            *_rows((name, "", each.help) for name, each in shared.items()),
            "\n## Flags of one command\n",
            "The name contains that of the command. Names of the former form, such as",
            f"`{former_env(own[0][1].envvar)}`, still work, with a notice.\n",
            *_rows((each.envvar, f"`fsqueue {name}`", each.help) for name, each in own),
            "\n## Others\n",
            *_rows((name, "", text) for name, text in OTHERS.items()),
            "",
        ]
    )


def _rows(rows):
    yield "| variable | | what it is |\n|---|---|---|"
    for name, middle, text in rows:
        yield f"| `{name}` | {middle} | {text} |".replace("|  |", "| |")


def _table(command):
    shown = [parameter for parameter in command.params if parameter.name != "help"]
    if not shown:
        return []
    rows = ["\n| | default | environment | |", "|---|---|---|---|"]
    return [*rows, *map(_row, shown)]


def _row(parameter):
    metavar = (parameter.metavar or "").replace("|", "\\|")
    if not isinstance(parameter, Option):
        return f"| `{metavar}` | | | {parameter.help} |"
    flags = ", ".join(f"`{flag}`" for flag in parameter.opts)
    value = "" if parameter.is_flag else f" `{metavar}`"
    default = "" if has_no_default(parameter) else f"`{parameter.default}`"
    variable = f"`{parameter.envvar}`" if parameter.envvar else ""
    return f"| {flags}{value} | {default} | {variable} | {parameter.help} |"


def has_no_default(parameter):
    """Whether the default is only that the option is not given."""
    return not isinstance(parameter.default, (str, int)) or parameter.default is False


def write():
    """Write all files anew."""
    GOLDEN.mkdir(exist_ok=True)
    for old in GOLDEN.glob("*.txt"):
        old.unlink()
    for name, text in help_pages().items():
        (GOLDEN / name).write_text(text, "utf-8")
    PAGE.write_text(reference(), "utf-8")
    VARIABLES.write_text(variables(), "utf-8")


if __name__ == "__main__":
    write()
