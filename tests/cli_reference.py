"""Help pages and docs/cli.md, from the commands themselves.

``python tests/cli_reference.py`` writes them anew.
"""

from __future__ import annotations

import functools
import inspect
from pathlib import Path

from click import Context, Group, Option
from click.testing import CliRunner

from fsqueue.cli.exits import MEANINGS
from fsqueue.cli.main import command_line

HERE = Path(__file__).resolve().parent
GOLDEN = HERE / "acceptance" / "golden"
PAGE = HERE.parent / "docs" / "cli.md"
WIDTH = 78

_HEAD = """# Command line

`python tests/cli_reference.py` writes this page from the commands themselves. [Operating](operating.md)
shows how to use them.

Each flag can also be set by an environment variable, which counts if the flag is not given. The items
of a list are separated by spaces there.
"""  # noqa: E501 - lines of the page, not of code


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
    return "\n".join(parts) + "\n"


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


if __name__ == "__main__":
    write()
