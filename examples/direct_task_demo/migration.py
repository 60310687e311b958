"""Show what migrating to fsqueue changes, and check that it changes no body.

Prints the difference between tasks_original.py and tasks.py, then compares signature
and body of every function as written. Nothing is imported, so no queue is needed.
"""

import ast
import difflib
from pathlib import Path

HERE = Path(__file__).resolve().parent
Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(source: str) -> dict[str, str]:
    """Map each function's name to its source from `def` to its end, decorators left out."""
    lines = source.splitlines()
    return {
        node.name: "\n".join(lines[node.lineno - 1 : node.end_lineno])
        for node in ast.parse(source).body
        if isinstance(node, Function)
    }


def program(source: str) -> list[str]:
    """Give the lines between the file's docstring and its `__main__` part."""
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
    print(f"\n{len(before)} functions, the same in both files but for their decorators")


if __name__ == "__main__":
    main()
