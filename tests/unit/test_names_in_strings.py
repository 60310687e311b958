"""Modules that are named in strings, which no import shows when a module moves."""

import ast
import importlib.util
import pkgutil
import re
import sys
from pathlib import Path

import pytest

import fsqueue
from fsqueue.codec.pickling import MOVED

PACKAGE = Path(fsqueue.__file__).parent
# Loggers and attributes of spans, which look like modules.
NO_MODULES = {"fsqueue.calls", "fsqueue.attempt", "fsqueue.task", "fsqueue.queue", "fsqueue.toml"}


def strings_of_the_package():
    """The texts in the code of the package, with where they are; no docstrings."""
    paths = sorted(PACKAGE.rglob("*.py"))
    assert len(paths) > 100, "the package is not where this test looks for it"
    for path in paths:
        tree = ast.parse(path.read_text("utf-8"))
        prose = {
            id(node.value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        }
        for node in ast.walk(tree):
            is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
            if is_text and id(node) not in prose:
                yield f"{path.relative_to(PACKAGE)}:{node.lineno}", node.value


def modules_in(text):
    """Modules of the package that a text names: as a whole, or in an import within code."""
    if re.fullmatch(r"fsqueue(\.[a-z_]+)+", text):
        return {text}
    return set(re.findall(r"\b(?:from|import) (fsqueue(?:\.[a-z_]+)*)", text))


NAMED = sorted(
    {
        (module, where.partition(":")[0])
        for where, text in strings_of_the_package()
        for module in modules_in(text) - NO_MODULES - MOVED.keys()
    }
)


def test_some_are_named():
    """Those of the fork server and of the doctor's second process, at the least."""
    assert {"fsqueue.runner.slots.forkserver", "fsqueue.doctor.partner"} <= {
        name for name, _ in NAMED
    }


@pytest.mark.parametrize(("module", "file"), NAMED)
def test_a_module_or_function_that_is_named_is_there(module, file):
    # Without an import, if possible: that of the fork server replaces this process's handlers.
    try:
        there = importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # what is before the last dot is no package
        there = bool(pkgutil.resolve_name(module))
    assert there, file


def test_this_process_is_no_fork_server():
    """It would have other handlers of signals, and adopt orphans."""
    assert "fsqueue.runner.slots.forkserver" not in sys.modules
