"""What no test may do: let time pass, measure it, or replace parts of our own modules."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
SUSPECT = re.compile("sleep|monotonic|perf_counter|setattr|delattr|mock")
CLOCKS = {"sleep", "monotonic", "perf_counter", "monotonic_ns", "perf_counter_ns"}
# Programs and bodies of tasks, which are to take time, and tests of whole machines.
PROGRAMS = ("acceptance/project/", "data/", "nfs/", "launch/fakebatch.py")
BODIES = ("_tasks.py", "_slots.py")
WAITS = {
    ("support.py", "wait_until"),
    ("support.py", "async_wait_until"),
    ("command_server.py", "status_of"),
    ("acceptance/acceptance_harness.py", "wait_until_idle"),
    ("acceptance/test_doctor_faults.py", "rename"),  # a slow filesystem
}
"""The functions in which a test waits: for an event, and with an end."""


@cache
def modules() -> list[tuple[str, ast.Module]]:
    texts = {path: path.read_text("utf-8") for path in sorted(TESTS.rglob("*.py"))}
    assert len(texts) > 200
    return [
        (str(path.relative_to(TESTS)), ast.parse(text))
        for path, text in texts.items()
        if SUSPECT.search(text)
    ]


def waits(name: str, tree: ast.Module):
    """Lines outside of the functions that may wait which sleep, or read a clock to measure."""
    exempt = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        and (name, function.name) in WAITS
        for node in ast.walk(function)
    }
    for node in ast.walk(tree):
        if id(node) not in exempt and (
            (isinstance(node, ast.Call) and called(node) in CLOCKS and not is_yield(node))
            or (isinstance(node, ast.ImportFrom) and {each.name for each in node.names} & CLOCKS)
        ):
            yield f"{name}:{node.lineno}: {ast.unparse(node)}"


def called(call: ast.Call) -> str:
    function = call.func
    if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name):
        return function.attr if function.value.id in {"time", "asyncio"} else ""
    return ""


def is_yield(call: ast.Call) -> bool:
    """Lets the other coroutines go on, and waits for nothing."""
    return ast.unparse(call) == "asyncio.sleep(0)"


def patches(name: str, tree: ast.Module):
    """Lines that replace what is ours: anything but attributes of a module of others."""
    others = {
        each.asname or each.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for each in node.names
        if not each.name.startswith("fsqueue")
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom | ast.Import):
            found = "mock" in ast.unparse(node).replace(".", " ").split()
        else:
            found = (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in {"setattr", "delattr"}
                and not (isinstance(node.args[0], ast.Name) and node.args[0].id in others)
            )
        if found:
            yield f"{name}:{node.lineno}: {ast.unparse(node)}"


def test_no_test_lets_time_pass_or_measures_it():
    """Wait for an event with `wait_until`, count, or move a clock on: `Clocked`, `clock_offset`."""
    tests = [
        each
        for each in modules()
        if not each[0].startswith(PROGRAMS)
        if not each[0].endswith(BODIES)
    ]
    assert [line for each in tests for line in waits(*each)] == []


def test_no_test_replaces_parts_of_our_modules():
    """Hand it over as an argument, or derive a class."""
    assert [line for each in modules() for line in patches(*each)] == []


@pytest.mark.parametrize(
    "text",
    [
        "import time\ntime.sleep(1)",
        "from time import sleep",
        "import asyncio\nasync def f(): await asyncio.sleep(0.1)",
        "import time\ndef test(): assert time.monotonic() - began < 2",
    ],
)
def test_the_rule_of_time_finds_it(text):
    assert len(list(waits("test_x.py", ast.parse(text)))) == 1
    assert list(waits("x.py", ast.parse("import asyncio\nasyncio.sleep(0)"))) == []


@pytest.mark.parametrize(
    "text",
    [
        "from unittest import mock",
        "import unittest.mock",
        "from fsqueue.spool import x\nmonkeypatch.setattr(x, 'A', 1)",
        "import fsqueue\nmonkeypatch.setattr(fsqueue, 'A', 1)",
        "monkeypatch.setattr('fsqueue.x.A', 1)",
        "monkeypatch.setattr(place.fs, 'link', f)",
    ],
)
def test_the_rule_of_patches_finds_it(text):
    assert len(list(patches("x.py", ast.parse(text)))) == 1
    assert list(patches("x.py", ast.parse("import os\nmonkeypatch.setattr(os, 'open', f)"))) == []
