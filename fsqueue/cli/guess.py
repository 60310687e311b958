"""Finds the applications of a folder by parsing its source, without running it."""

from __future__ import annotations

import ast
import os

# Larger files are data.
_LONGEST = 1 << 20


def applications_in(folder: str) -> list[str]:
    """``module:variable`` for each ``variable = FSQueue(...)`` in the modules of a folder.

    Only top-level assignments in the ``*.py`` files of the folder itself count, except in tests.
    Nothing is imported.
    """
    found = []
    for name in sorted(os.listdir(folder)):
        module, extension = os.path.splitext(name)
        if extension != ".py" or not module.isidentifier() or _is_test(module):
            continue
        found += [f"{module}:{each}" for each in _applications(os.path.join(folder, name))]
    return found


def _is_test(module: str) -> bool:
    return module.startswith("test_") or module.endswith("_test") or module == "conftest"


def _applications(path: str) -> list[str]:
    try:
        if not os.path.isfile(path) or os.path.getsize(path) > _LONGEST:
            return []
        with open(path, "rb") as file:
            source = file.read()
        if b"FSQueue" not in source:
            return []
        tree = ast.parse(source)
    except (OSError, SyntaxError, ValueError, RecursionError):
        return []  # not readable as Python, so no application
    return [
        target.id
        for statement in tree.body
        if isinstance(statement, ast.Assign | ast.AnnAssign) and _is_app(statement.value)
        for target in _targets(statement)
        if isinstance(target, ast.Name)
    ]


def _targets(statement: ast.Assign | ast.AnnAssign) -> list[ast.expr]:
    return statement.targets if isinstance(statement, ast.Assign) else [statement.target]


def _is_app(value: ast.expr | None) -> bool:
    if not isinstance(value, ast.Call):
        return False
    function = value.func
    return (isinstance(function, ast.Name) and function.id == "FSQueue") or (
        isinstance(function, ast.Attribute) and function.attr == "FSQueue"
    )
