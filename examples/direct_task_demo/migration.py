"""Shows what a migration to fsqueue changes, and checks that it changes no function body.

Prints the difference between tasks_original.py and tasks.py, then compares the source of
each function without its decorators. Nothing is imported, so no queue is needed.
"""

import ast
import difflib
from pathlib import Path

HERE = Path(__file__).resolve().parent
Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(source: str) -> dict[str, str]:
    """Map the name of each function to its source, without decorators."""
    lines = source.splitlines()
    return {
        node.name: "\n".join(lines[node.lineno - 1 : node.end_lineno])
        for node in ast.parse(source).body
        if isinstance(node, Function)
    }


def program(source: str) -> list[str]:
    """Return the lines between the file's docstring and its `__main__` part."""
    return source.partition('"""\n\n')[2].partition("\n\n\nif __name__")[0].splitlines()


def main() -> None:
    original = (HERE / "tasks_original.py").read_text(encoding="utf-8")
    migrated = (HERE / "tasks.py").read_text(encoding="utf-8")
    names = ("tasks_original.py", "tasks.py")
    changes = difflib.unified_diff(program(original), program(migrated), *names, n=1, lineterm="")
    print("\n".join(changes))

    before, after = functions(original), functions(migrated)
    for name, code in before.items():
        assert after.get(name) == code, f"{name} is not the same in tasks.py"
    print(f"\n{len(before)} functions, the same in both files except for their decorators")


if __name__ == "__main__":
    main()
