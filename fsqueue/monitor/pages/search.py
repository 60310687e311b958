"""Search: an id leads to its call, any other text to everything with that text in its name."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from fsqueue.errors import FSQueueError
from fsqueue.monitor.actions import call_id
from fsqueue.monitor.pages.page import Page
from fsqueue.spool.admin.failures import grouped

if TYPE_CHECKING:
    from fsqueue.monitor.pages.page import Ask

_MOST = 20
_LONGEST = 200


def search(ask: Ask) -> Page:
    """Everything in the window whose name contains the text."""
    text = ask.fields.get("q", "").strip()[:_LONGEST]
    redirect = f"./calls/{quote(text, safe='')}" if _is_id(text) else ""
    found: list[tuple[str, str, str]] = []
    if text and not redirect:
        found = _found(ask, text.lower())
    facts = {"text": text, "found": found}
    return Page("search", "Search", facts, {"found": found}, redirect=redirect)


def _is_id(text: str) -> bool:
    try:
        call_id(text)
    except FSQueueError:
        return False
    return True


def _found(ask: Ask, text: str) -> list[tuple[str, str, str]]:
    """Kinds, names and links."""
    look = ask.look()

    def link(kind: str, name: str) -> str:
        return f"{kind}/{quote(name, safe='')}"

    names = {
        "task": ("tasks", [each.task for each in look.stats.tasks]),
        "worker": ("workers", sorted({
            *(each.name for each in look.glance.snapshot.workers),
            *(each.worker for each in look.stats.workers),
        })),
        "run": ("runs", sorted(look.stats.runs)),
    }  # fmt: skip
    found = [
        (kind, name, link(where, name))
        for kind, (where, every) in names.items()
        for name in [each for each in every if text in each.lower()][:_MOST]
    ]
    for group in grouped(look.failed):
        if text in f"{group.fp} {group.type} {group.message} {group.at}".lower():
            name = f"{group.type}: {group.message[:100]}"
            found.append(("failures", name, link("failures", group.fp or group.type)))
    labels = {each.entry.label: each.entry.id for each in look.failed if each.entry.label}
    for label, invocation in sorted(labels.items()):
        if text in label.lower():
            found.append(("failed call", label, link("calls", invocation)))
    return found[: 5 * _MOST]
