"""Help pages are as they were agreed on, and the reference is theirs."""

import re
import shlex
from pathlib import Path

import pytest
from cli_reference import (
    GOLDEN,
    MEANINGS,
    OTHERS,
    PAGE,
    VARIABLES,
    WIDTH,
    commands,
    help_page,
    help_pages,
    reference,
    variables,
)
from click import Context, Group

import fsqueue
from fsqueue.cli.command import former_env
from fsqueue.cli.main import command_line
from fsqueue.config import COMMAND_LINE_KEYS, PREFIX, TASK_PREFIX, fields

PACKAGE = Path(fsqueue.__file__).parent

ANEW = "python tests/cli_reference.py writes it anew"


def test_each_command_has_a_golden_help_page():
    assert {path.name for path in GOLDEN.iterdir()} == set(help_pages()), ANEW


@pytest.mark.parametrize("name", sorted(help_pages()))
def test_a_help_page(name):
    page = help_pages()[name]
    assert (GOLDEN / name).read_text("utf-8") == page, ANEW
    assert max(map(len, page.splitlines())) <= WIDTH


def test_the_reference():
    assert PAGE.read_text("utf-8") == reference(), ANEW


def test_the_exit_codes_of_the_guide():
    guide = (PAGE.parent / "operating.md").read_text("utf-8")
    for code, meaning in MEANINGS.items():
        assert f"| {code} | {meaning} |" in guide


def test_the_page_of_a_real_command(site):
    done = site.fsqueue("status", "--help", COLUMNS=str(WIDTH + 2))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (GOLDEN / "status.txt").read_text("utf-8")


@pytest.mark.parametrize("name", commands())
def test_every_flag_has_a_twin_of_its_own_in_the_environment(name):
    for parameter in commands()[name].params:
        if parameter.param_type_name == "argument" or parameter.name == "help":
            continue
        flag = parameter.opts[0].removeprefix("--").replace("-", "_").upper()
        shared = flag in {"ROOT", *COMMAND_LINE_KEYS}
        own = flag if shared else f"{name.replace(' ', '__').upper()}__{flag}"
        assert parameter.envvar == f"FSQUEUE__{own}"
        assert former_env(parameter.envvar) == f"FSQUEUE_CLI_{own.replace('__', '_')}"


def test_no_flag_is_taken_for_a_setting_or_an_option_of_tasks():
    variables = {p.envvar for command in commands().values() for p in command.params} - {None}
    settings = {f"{PREFIX}{name.upper()}" for name in fields()}
    assert variables & settings == {"FSQUEUE__ROOT"}  # --root stands for the setting
    assert not [each for each in variables if each.startswith(TASK_PREFIX)]


def test_the_page_of_variables():
    assert VARIABLES.read_text("utf-8") == variables(), ANEW


def test_the_page_of_variables_has_all_that_the_code_reads():
    source = "\n".join(path.read_text("utf-8") for path in PACKAGE.rglob("*.py"))
    named = set(re.findall(r"""["`](_?FSQUEUE_[A-Z]+(?:_[A-Z]+)*)["`]""", source))
    named -= {"FSQUEUE_ROOT"}  # a mistake, which is pointed out
    assert named == set(OTHERS) & named
    assert set(OTHERS) == named | {"_FSQUEUE_COMPLETE"}


@pytest.mark.parametrize("name", commands())
def test_the_examples_of_a_help_page_are_commands(name):
    command, examples = commands()[name], commands()[name].examples
    assert examples, "each help page has examples"
    for example in examples:
        before, words = shlex.split(example.partition("#")[0].partition(">")[0]), name.split()
        if before[0] == "eval":
            before = shlex.split(before[1].strip("$()"))
        assert before[: 1 + len(words)] == ["fsqueue", *words]
        parsed = command.make_context(name, before[1 + len(words) :])
        assert isinstance(command, Group) or not parsed.args


def test_the_page_of_all_commands_fits_on_a_screen():
    lines = help_page().splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= WIDTH
    for name in command_line.list_commands(Context(command_line)):
        assert f" {name:<11}" in help_page(), name
