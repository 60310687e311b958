"""Finds applications and tasks by parsing the sources of a folder, without running them."""

from __future__ import annotations

import ast
import os
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# Larger files are data.
_LONGEST = 1 << 20
_FILES = (".py", "/__init__.py")


def applications_in(folder: str) -> list[str]:
    """``module:variable`` for each ``variable = FSQueue(...)`` in the modules of a folder.

    Only top-level assignments in the ``*.py`` files of the folder itself count, except in tests.
    Nothing is imported.
    """
    return [
        f"{module}:{name}" for module, tree in _modules_of(folder) for name in _applications(tree)
    ]


class AppSource(NamedTuple):
    """The literal texts in the source of an application; empty where there is none."""

    app_id: str
    root: str


def read_application(name: str, folders: Sequence[str]) -> AppSource | None:
    """The id and the root that the source of ``module:variable`` gives; None if it is not found."""
    module, _, variable = name.partition(":")
    relative = module.replace(".", "/")
    for path in (f"{folder}/{relative}{end}" for folder in folders for end in _FILES):
        found = _applications(_parsed(path))
        call = found.get(variable) if variable else next(iter(found.values()), None)
        if call is not None:
            named = {keyword.arg: keyword.value for keyword in call.keywords}
            app_id = call.args[0] if call.args else named.get("app_id", ast.Constant("fsqueue"))
            return AppSource(_text(app_id), _text(named.get("root")))
    return None


def _text(node: ast.expr | None) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def tasks_in(folder: str) -> list[str]:
    """``module.function`` for each task of the modules of a folder."""
    return [
        f"{module}.{statement.name}"
        for module, tree in _modules_of(folder)
        for statement in tree.body
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef)
        and any(map(_is_task, statement.decorator_list))
    ]


def _is_task(decorator: ast.expr) -> bool:
    target = decorator.func if isinstance(decorator, ast.Call) else decorator
    return isinstance(target, ast.Attribute) and target.attr in {"task", "direct_task"}


def _modules_of(folder: str) -> Iterator[tuple[str, ast.Module]]:
    """The modules of a folder that may use fsqueue, without its tests."""
    for name in sorted(os.listdir(folder)):
        module, extension = os.path.splitext(name)
        if extension == ".py" and module.isidentifier() and not _is_test(module):
            yield module, _parsed(os.path.join(folder, name))


def _is_test(module: str) -> bool:
    return module.startswith("test_") or module.endswith("_test") or module == "conftest"


def _parsed(path: str) -> ast.Module:
    """The module in a file; an empty one if there is none, or if it has no use for fsqueue."""
    try:
        if os.path.isfile(path) and os.path.getsize(path) <= _LONGEST:
            with open(path, "rb") as file:
                source = file.read()
            if b"FSQueue" in source or b"task" in source:
                return ast.parse(source)
    except (OSError, SyntaxError, ValueError, RecursionError):
        pass  # not readable as Python, so no application
    return ast.Module([], [])


def _applications(tree: ast.Module) -> dict[str, ast.Call]:
    """The calls of ``FSQueue`` by the variable that gets the result."""
    return {
        target.id: statement.value
        for statement in tree.body
        if isinstance(statement, ast.Assign | ast.AnnAssign)
        and isinstance(statement.value, ast.Call)
        and _is_app(statement.value)
        for target in _targets(statement)
        if isinstance(target, ast.Name)
    }


def _targets(statement: ast.Assign | ast.AnnAssign) -> list[ast.expr]:
    return statement.targets if isinstance(statement, ast.Assign) else [statement.target]


def _is_app(value: ast.Call) -> bool:
    function = value.func
    return (isinstance(function, ast.Name) and function.id == "FSQueue") or (
        isinstance(function, ast.Attribute) and function.attr == "FSQueue"
    )
