"""Help pages are as they were agreed on, and the reference is theirs."""

import pytest
from cli_reference import GOLDEN, MEANINGS, PAGE, WIDTH, commands, help_pages, reference

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
    shared = {"app", "root", "json", "timeout", "yes"}
    for parameter in commands()[name].params:
        if parameter.param_type_name == "argument" or parameter.name == "help":
            continue
        flag = parameter.opts[0].removeprefix("--").replace("-", "_")
        own = flag if flag in shared else f"{name}_{flag}".replace(" ", "_")
        assert parameter.envvar == f"FSQUEUE_CLI_{own.upper()}"
