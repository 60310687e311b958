"""The attention list: rules that check a look, each with a sentence and a command.

The report uses those that also make sense for a past period (`in_period`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal
from urllib.parse import quote, urlencode

import msgspec

from fsqueue.common.commands import command
from fsqueue.common.printable import counted, duration
from fsqueue.monitor.estimates import estimate, growth_of, recent
from fsqueue.monitor.words import listed
from fsqueue.spool.admin.failures import grouped
from fsqueue.spool.format.names import split_profile
from fsqueue.spool.format.resources import NONE, in_words, needs_in_words, needs_of, queue_in_words
from fsqueue.spool.history.minutes import sums_by_task

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from fsqueue.monitor.looks import Look
    from fsqueue.spool.admin.failures import FailureGroup
    from fsqueue.spool.admin.snapshot import QueueInfo
    from fsqueue.spool.history.gauges import Gauge
    from fsqueue.spool.history.statistics import Stats

# Thresholds for a task that fails more often than before: the factor, and its calls and failures.
# If all its calls fail, _ALL of them are enough.
_TIMES, _CALLS, _FAILED, _ALL = 5.0, 20, 3, 5
_BEFORE = 1e-3
# A worker is slow if its run times exceed the usual ones by this factor; fewer than _MANY calls
# need _SLOW_SO_FAR.
_SLOW, _MANY, _SLOW_SO_FAR = 1.5, 30, 2.0
# Number of retries from which a group is worth a look.
_RETRIES = 20
_FULL = 0.9
_OLD = 30.0
# Seconds before its end from which a batch job ends soon.
_SOON = 900.0


class Need(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that needs attention."""

    level: Literal["bad", "warn"]
    icon: str
    what: str
    """The fact, as the beginning of a sentence."""
    more: str = ""
    link: str = ""
    """The page that shows it, relative to the first page."""
    link_text: str = "Show them"
    command: str = ""
    """The command that helps, or shows it."""


def needs(look: Look) -> list[Need]:
    """Everything that needs attention, the worst first."""
    found = [
        *_unserved(look),
        *_failing(look),
        *_workers(look),
        *_died(look),
        *_slow(look),
        *_paused(look),
        *_retried(look),
        *_ending_jobs(look),
        *_place(look),
    ]
    return sorted(found, key=lambda need: need.level)  # "bad" comes before "warn"


def link(*parts: str, **fields: str) -> str:
    """The address of a page, relative to the first one; its texts may come from the spool."""
    path = "/".join(quote(part, safe="") for part in parts)
    return f"{path}?{urlencode(fields)}" if fields else path


def _calls(queue: QueueInfo) -> int:
    return queue.due + queue.delayed + queue.waiting


def _unserved(look: Look) -> Iterator[Need]:
    for queue in look.glance.snapshot.queues:
        if not _calls(queue) or queue.workers or queue.fleets or queue.paused:
            continue
        name, profile = split_profile(queue.name)
        needed = needs_of(profile)
        short = name.partition(".")[2] or name
        calls = counted(_calls(queue), "call")
        if needed:
            what = f"{calls} can't run: {needs_in_words(needed)} is needed, and nothing has it."
            helps = command("worker", queue=short, resource=in_words(needed or NONE).split())
        else:
            what = f"{calls} can't run: no live worker serves {name}."
            helps = command("worker", queue=short)
        more = f"The oldest has been waiting for {duration(queue.oldest)}." if queue.oldest else ""
        yield Need(
            level="bad",
            icon="failed",
            what=what,
            more=more,
            link=link("calls", state="pending", queue=name),
            command=helps,
        )
    for fleet in look.glance.snapshot.closed_fleets:
        yield Need(level="warn", icon="paused", what=str(fleet), command=command("fleet"))


def _failing(look: Look) -> Iterator[Need]:
    """Tasks that fail at least five times as often in the last minutes as before them."""
    last = int(look.now // 60) - 15
    late = sums_by_task(each for number, each in look.minutes.items() if number >= last)
    early = sums_by_task(each for number, each in look.minutes.items() if number < last)
    for name, sums in sorted(late.items()):
        few = _ALL if sums.failed == sums.calls else _CALLS
        if sums.calls < few or sums.failed < _FAILED:
            continue
        share = sums.failed / sums.calls
        before = early.get(name)
        usual = max(_BEFORE, before.failed / before.calls) if before and before.calls else None
        if usual is not None and share < _TIMES * usual:
            continue
        if usual is None and share < 0.5:  # noqa: PLR2004 - new, so only if most of it fails
            continue
        often = "" if usual is None else f", {share / usual:.0f} times as often as before"
        yield Need(
            level="bad",
            icon="failed",
            what=f"{name or '?'} fails{often}:",
            more=f"{sums.failed:,} of {counted(sums.calls, 'call')} in the last 15 minutes.",
            link=link("failures", task=name),
            link_text="Show the reasons",
            command=command("failures", since="15m", task=name),
        )


def _workers(look: Look) -> Iterator[Need]:
    workers = look.glance.snapshot.workers
    alive = sum(each.is_alive for each in workers)
    gone = [each for each in workers if each.state in {"silent", "dead"}]
    held = sum(each.held for each in gone)
    if gone:
        one = gone[0]
        silent = "" if one.beat is None else f" for {duration(one.beat)}"
        who = f"{one.name} is {one.state}{silent if one.state == 'silent' else ''}."
        if len(gone) > 1:
            who = f"{len(gone)} workers are silent or dead: {listed([w.name for w in gone])}."
        back = "a living worker gives them back" if alive else "no worker lives to give them back"
        yield Need(
            level="warn" if alive or not held else "bad",
            icon="attention",
            what=who,
            more=f"They hold {counted(held, 'call')}; {back}." if held else "",
            link="workers",
            command=command("workers"),
        )
    if alive and not look.glance.worker:
        yield Need(
            level="warn",
            icon="attention",
            what=f"{counted(alive, 'worker')} live, and none has written its snapshot for 30 s.",
            more="This page counts by itself.",
            link="workers",
            command=command("doctor"),
        )


def _died(look: Look) -> Iterator[Need]:
    """Workers that died, if calls were lost with a worker or slot."""
    there = {each.name for each in look.glance.snapshot.workers}
    gone = (each for each in look.stats.workers if not (each.alive or each.left))
    died = [each.worker for each in gone if each.worker not in there]
    if died and look.stats.lost:
        lost = counted(look.stats.lost, "attempt")
        yield Need(
            level="warn",
            icon="attention",
            what=f"{counted(len(died), 'worker')} died without leaving: {listed(died)}.",
            more=f"{lost} {'was' if look.stats.lost == 1 else 'were'} lost with a worker or slot.",
            link="workers",
            command=command("stats"),
        )


def _slow(look: Look) -> Iterator[Need]:
    """The slowest living worker, if it is much slower than the others."""
    alive = {each.worker for each in look.stats.workers if each.alive}
    slowest = _slowest(look.stats, alive)
    if slowest is not None:
        name, pace = slowest
        yield Need(
            level="warn",
            icon="attention",
            what=f"{name} is slow:",
            more=f"its calls take {pace:.1f} times as long as the same tasks on all workers.",
            link=link("workers", name),
            link_text="Show it",
            command=command("drain", name),
        )


def _slowest(stats: Stats, names: Iterable[str]) -> tuple[str, float] | None:
    """The slowest of some workers and its pace, if it is much slower than the others."""
    wanted = set(names)
    slow = {
        each.worker: each.pace
        for each in stats.workers
        if each.worker in wanted
        and each.pace is not None
        and each.pace >= (_SLOW if each.calls >= _MANY else _SLOW_SO_FAR)
    }
    name = max(slow, key=lambda each: slow[each], default="")
    return (name, slow[name]) if name else None


def _paused(look: Look) -> Iterator[Need]:
    seen = set()
    for queue in look.glance.snapshot.queues:
        name = split_profile(queue.name)[0]
        if queue.paused and _calls(queue) and name not in seen:
            seen.add(name)
            short = name.partition(".")[2] or name
            yield Need(
                level="warn",
                icon="paused",
                what=f"{queue_in_words(queue.name)} is paused",
                more=f"with {counted(_calls(queue), 'call')}.",
                link=link("calls", state="pending", queue=name),
                command=command("resume", short),
            )


def _retried(look: Look) -> Iterator[Need]:
    group = _most_retried(grouped(look.failed))
    if group is not None:
        yield Need(
            level="warn",
            icon="attention",
            what=f"{group.retried:,} attempts were retried for one reason:",
            more=f"{group.type}.",
            link=link("failures", group.fp),
            link_text="Show it",
            command=command("failures", group.fp),
        )


def _most_retried(groups: Iterable[FailureGroup]) -> FailureGroup | None:
    """The reason for most of the retries, if it repeats itself."""
    found = max(groups, key=lambda each: each.retried, default=None)
    return found if found is not None and found.retried >= _RETRIES and found.fp else None


def _ending_jobs(look: Look) -> Iterator[Need]:
    workers = [each for each in look.glance.snapshot.workers if each.is_alive]
    soon = [each for each in workers if each.left is not None and each.left < _SOON]
    due = sum(each.due for each in look.glance.snapshot.queues if not each.paused)
    until = estimate(due, recent(look), growth_of(look))
    lasts = until.kind in {"never", "grows"} or until.seconds > _SOON
    if soon and len(soon) == len(workers) and due and lasts:
        yield Need(
            level="warn",
            icon="attention",
            what="The batch jobs of all workers end within 15 minutes,",
            more=f"and {counted(due, 'call')} will still wait.",
            link="workers",
            command=command("launch"),
        )


def _place(look: Look) -> Iterator[Need]:
    quarantined = look.glance.snapshot.counts.quarantined
    if quarantined:
        yield Need(
            level="warn",
            icon="attention",
            what=_in_quarantine(quarantined),
            command=command("doctor"),
        )
    if look.used > _FULL:
        yield Need(
            level="bad" if look.used > 0.99 else "warn",  # noqa: PLR2004 - the disk is full
            icon="attention",
            what=f"{look.used:.0%} of the disk is in use.",
            command=command("gc"),
        )
    if look.glance.space:
        yield Need(
            level="warn",
            icon="attention",
            what="Results will fill the disk before they expire:",
            more=look.glance.space,
            command=command("gc"),
        )
    if look.age > _OLD:
        yield Need(
            level="warn",
            icon="attention",
            what=f"The figures are {duration(look.age)} old.",
            command=command("status"),
        )


def _in_quarantine(number: int) -> str:
    verb = "is" if number == 1 else "are"
    return f"{counted(number, 'file')} cannot be read, and {verb} in quarantine."


# -- for a past period ------------------------------------------------------------------------


def in_period(
    stats: Stats, states: Mapping[str, str], groups: Sequence[FailureGroup], last: Gauge | None
) -> Iterator[str]:
    """A sentence for each thing in a past period that an operator should know about.

    Args:
        stats: the statistics of the period.
        states: the states of its workers, by the names under which they may be shown.
        groups: its failures, the largest group first.
        last: how full the spool was at its end.
    """
    died = [name for name, state in states.items() if state == "died"]
    if died:
        of = f"{len(died)} of {counted(len(stats.workers), 'worker')}"
        yield f"{of} died without leaving: {listed(died, 5)}."
    if stats.lost:
        verb = "was" if stats.lost == 1 else "were"
        yield f"{counted(stats.lost, 'attempt')} {verb} lost with a worker or slot."
    if groups and groups[0].calls:
        those = f"{groups[0].calls:,} of {counted(stats.failed, 'failed call')}"
        yield f"{those} failed for one reason: {groups[0].type}."
    retried = _most_retried(groups)
    if retried is not None:
        yield f"{retried.retried:,} attempts were retried for one reason: {retried.type}."
    slowest = _slowest(stats, states)
    if slowest is not None:
        long = f"its calls took {slowest[1]:.1f} times as long as the same tasks on all workers"
        yield f"{slowest[0]} was slow: {long}."
    for name, queue in sorted(last.queues.items()) if last else ():
        if queue.due and (queue.paused or not queue.workers):
            how = "was paused" if queue.paused else "had no worker"
            yield f"At the end {queue_in_words(name)} {how}, with {counted(queue.due, 'call')} due."
    if last and last.quarantined:
        yield _in_quarantine(last.quarantined)
