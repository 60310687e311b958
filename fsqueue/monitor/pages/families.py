"""The graph of the calls around one call."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from fsqueue.common.printable import counted
from fsqueue.monitor.graphs import Node, graph

if TYPE_CHECKING:
    from fsqueue.spool.admin.family import Family, Relative

_KINDS = {"running": "run", "pending": "wait", "failed": "bad", "succeeded": "ok",
          "cancelled": "lost"}  # fmt: skip
_WORDS = {
    -2: "before that",
    -1: "its result goes into this call",
    1: "waits for this call",
    2: "after that",
}
_TIMES = "\N{MULTIPLICATION SIGN}"
# Calls of a group that are named in the table.
_NAMED = 5


class FamilyRow(NamedTuple):
    """One call, or several of one task with the same state and the same neighbour."""

    relation: str
    task: str
    state: str
    calls: list[Relative]
    named: list[Relative]
    more: int


def rows_of(family: Family) -> list[FamilyRow]:
    """The table below the graph."""
    return [
        FamilyRow(
            _WORDS[level], task, state, calls, calls[:_NAMED], max(0, len(calls) - _NAMED)
        )
        for (level, _, task, state), calls in _groups(family).items()
    ]  # fmt: skip


def family_chart(family: Family, carrier: str, task: str, state: str) -> str:
    """The graph; calls of one task with the same parent are one node."""
    if not family.relatives:
        return ""
    groups = _groups(family)
    key_of = {each.id: _key(group) for group, calls in groups.items() for each in calls}
    key_of[carrier] = "self"
    below: dict[str, list[str]] = {}
    for group in groups:
        if group[0] > 0:
            below.setdefault(key_of.get(group[1], "self"), []).append(_key(group))
    nodes = [Node("self", 0, task or carrier, _KINDS.get(state, "h2"), below.get("self", ()),
                  f"this call: {carrier}")]  # fmt: skip
    for group, calls in groups.items():
        level, of, name, how = group
        key = _key(group)
        to = [key_of.get(of, "self")] if level < 0 else below.get(key, [])
        many = f" {_TIMES} {len(calls):,}" if len(calls) > 1 else ""
        text = f"{name.rpartition('.')[2] or calls[0].id}{many}"
        said = f"{name or calls[0].id}{many}: {how or 'state not looked up'}"
        nodes.append(Node(key, level, text, _KINDS.get(how, "h2"), to, said))
    known = sum(each.level < 0 for each in family.relatives)
    waiting = sum(each.level > 0 for each in family.relatives)
    label = (
        f"It takes the results of {counted(known, 'call')}, and {counted(waiting, 'call')} "
        f"wait{'s' * (waiting == 1)} for it"
    )
    return graph(nodes, label=label)


def _groups(family: Family) -> dict[tuple[int, str, str, str], list[Relative]]:
    found: dict[tuple[int, str, str, str], list[Relative]] = {}
    for each in sorted(family.relatives, key=lambda one: one.level):
        found.setdefault((each.level, each.of, each.task, each.state), []).append(each)
    return found


def _key(group: tuple[int, str, str, str]) -> str:
    return "|".join(map(str, group))
