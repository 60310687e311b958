"""Behaviour of all commands: finding, loading and interrupting them; durations."""

import json
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from acceptance_harness import wait_until
from click.testing import CliRunner

import fsqueue.cli
from fsqueue.cli import exits
from fsqueue.cli.commands import SECTIONS, module_of
from fsqueue.cli.main import command_line

NAMES = [name for names in SECTIONS.values() for name in names]


def run(*arguments, **context):
    return CliRunner().invoke(command_line, arguments, prog_name="fsqueue", **context)


def test_each_file_of_a_section_is_a_command_that_is_listed():
    files = set()
    for section in SECTIONS:
        for path in (Path(fsqueue.cli.__file__).parent / section.lower()).glob("*.py"):
            if any(mark in path.read_text("utf-8") for mark in ("@subcommand(", "@click.group(")):
                files.add((section, path.stem))
    assert files == {(section, name) for section, names in SECTIONS.items() for name in names}


def test_names_are_unique_and_a_section_is_a_package():
    assert len(NAMES) == len(set(NAMES))
    assert [module_of(name) for name in ("worker", "gc", "none")] == [
        "fsqueue.cli.start.worker",
        "fsqueue.cli.maintain.gc",
        None,
    ]


@pytest.mark.parametrize(("width", "columns"), [(80, 2), (60, 1)])
def test_help_lists_each_command_in_its_section_with_its_words(width, columns):
    lines = run("--help", terminal_width=width).stdout.splitlines()
    for section, commands in SECTIONS.items():
        (begin,) = [number for number, line in enumerate(lines) if line.startswith(f"{section} ")]
        height = (len(commands) + columns - 1) // columns
        rows = [line.removeprefix(section) for line in lines[begin : begin + height]]
        rows[0] = " " * len(section) + rows[0]
        edges = [rows[0].index(f"{name} ") for name in list(commands)[::height]]
        cells = [row[a:b] for a, b in pairwise([*edges, None]) for row in rows]
        # The columns are read downwards; the last one may be the shorter.
        assert [tuple(cell.strip().split(maxsplit=1)) for cell in cells if cell.strip()] == [
            (name, words) for name, words in commands.items()
        ]


@pytest.mark.parametrize("name", NAMES)
def test_the_short_form_of_help(name):
    assert run(name, "-h").stdout == run(name, "--help").stdout != ""


def test_a_command_imports_only_what_it_needs():
    code = (
        "import json, sys\n"
        "sys.argv = ['fsqueue', 'version']\n"
        "from fsqueue.__main__ import main\n"
        "try: main()\n"
        "except SystemExit: print(json.dumps(sorted(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30
    )
    version, modules = done.stdout.splitlines()
    assert version == fsqueue.__version__
    loaded = set(json.loads(modules))
    assert {"fsqueue.cli.maintain.version", "click"} <= loaded
    assert not loaded & {"rich", "msgspec", "psutil", "fsqueue.app", "fsqueue.config"}
    commands = {each for each in loaded if each in {module_of(name) for name in NAMES}}
    assert commands == {"fsqueue.cli.maintain.version"}


def test_the_version_as_a_flag():
    done = run("--version")
    assert (done.exit_code, done.stdout) == (exits.OK, f"{fsqueue.__version__}\n")


def test_a_mistyped_command_gets_a_suggestion():
    done = run("stauts")
    assert done.exit_code == exits.USAGE
    assert "No such command 'stauts'. Did you mean 'stats' or 'status'?" in done.stderr


def test_ctrl_c_ends_a_command_with_the_exit_code_of_a_signal(site):
    site.open()
    waiting = site.start(
        sys.executable, "-m", "fsqueue", "wait", site.tasks.square(2).id, "--root", site.root
    )
    sleeps_in = Path(f"/proc/{waiting.pid}/wchan")
    wait_until(lambda: "futex" in sleeps_in.read_text(), "it waits")
    waiting.signal(signal.SIGINT)
    assert waiting.wait() == exits.INTERRUPTED
    assert "Traceback" not in waiting.text()


# -- durations ----------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["0", "0.5", "90s", "40m", "2h", "7d"])
def test_a_duration_is_accepted(spool, text):
    assert run("gc", "--root", spool, "--older-than", text).exit_code == exits.NOT_FOUND


@pytest.mark.parametrize("text", ["", "-1", "nan", "inf", "1e400", "soon", "m", "1e308d"])
def test_what_is_no_duration_is_refused_where_it_is_given(spool, text):
    for command, option in (
        ("gc", "--older-than"),
        ("list", "--older-than"),
        ("stats", "--window"),
    ):
        done = run(command, "--root", spool, option, text)
        assert done.exit_code == exits.USAGE
        assert f"'{option}'" in done.stderr
        assert "90, 15m, 2h or 7d" in done.stderr


def test_a_duration_that_is_out_of_range(spool):
    done = run("top", "--root", spool, "--interval", "0")
    assert done.exit_code == exits.USAGE
    assert "'0' is out of range: at least 0.1 s" in done.stderr
    done = run("doctor", "--wait", "31m", spool)
    assert done.exit_code == exits.USAGE
    assert "'31m' is out of range: at least 1 s and at most 1800 s" in done.stderr


# -- completion ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("fsqueue pu", ["plain,purge"]),
        ("fsqueue list --sta", ["plain,--state"]),
        ("fsqueue list --state su", ["plain,succeeded"]),
    ],
)
def test_shells_can_complete_commands_options_and_choices(site, words, expected):
    done = site.fsqueue(
        _FSQUEUE_COMPLETE="bash_complete", COMP_WORDS=words, COMP_CWORD=str(words.count(" "))
    )
    assert done.stdout.split() == expected
