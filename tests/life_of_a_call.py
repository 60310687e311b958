"""The drawing of a call's life in README.md, from the table of steps in docs/concepts.md.

`test_moves.py` runs each step of that table, and compares README with this drawing.
``python tests/life_of_a_call.py`` prints it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

CONCEPTS = Path(__file__).resolve().parent.parent / "docs" / "concepts.md"


class Step(NamedTuple):
    """A row of the table."""

    name: str
    source: frozenset[str]
    target: frozenset[str]


def steps() -> list[Step]:
    """The rows of the table."""
    text = CONCEPTS.read_text("utf-8").partition("| step | from | to | by |")[2]
    table = text.partition("\n\n")[0]
    rows = re.findall(r"^\| ([a-z_ ]+) \| ([a-z, ]*) ?\| ([a-z, ]*) ?\|", table, re.MULTILINE)
    return [Step(name.replace("_", " "), _states(a), _states(b)) for name, a, b in rows]


def _states(text: str) -> frozenset[str]:
    return frozenset(filter(None, re.split(r"[, ]+", text)))


def drawing() -> str:
    """The states, with the steps between them."""
    rest = steps()

    def between(source: str, target: str) -> list[str]:
        fit = [each for each in rest if _goes(each, source, target)]
        for each in fit:
            rest.remove(each)
        assert fit, (source, target)
        return [each.name for each in fit]

    made, *also_made = between("", "pending")
    (claimed,) = between("pending", "running")
    (done,) = between("running", "succeeded failed")
    line = f"{made} ──▶ pending ── {claimed} ──▶ running ── {done} ──▶ succeeded, failed"
    left, right = line.index("pending") + 3, line.index("running") + 3
    again = ", ".join(between("running", "pending"))
    others = (
        ("", "pending", also_made),
        ("pending", "pending", between("pending", "pending")),
        ("pending", "cancelled", between("pending", "cancelled")),
        ("running", "cancelled", between("running", "cancelled")),
        ("running", "failed", between("running", "failed")),
        ("pending, running", "failed", between("pending running", "failed")),
        ("pending, running", "gone", between("pending running", "")),
    )
    lines = [
        line,
        f"{'▲':>{left + 1}}{'│':>{right - left}}",
        f"{'└':>{left + 1}}{'┘':─>{right - left}}  {again}",
        "",
        *(f"{source:<16} ──▶ {target:<9}  {', '.join(names)}" for source, target, names in others),
    ]
    assert not rest, f"steps that the drawing lacks: {rest}"
    return "\n".join(lines) + "\n"


def _goes(step: Step, source: str, target: str) -> bool:
    return step.source == _states(source) and step.target == _states(target)


if __name__ == "__main__":
    print(drawing(), end="")
