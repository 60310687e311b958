"""Recommends settings for a directory from the findings, with the reason for each."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fsqueue.config import fields
from fsqueue.doctor.findings import facts_of, in_words, number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fsqueue.doctor.findings import Finding

# An idle process spends at most 1 / _SHARE of its time on polling.
_SHARE = 500
_QUICKEST, _SLOWEST = 0.5, 5.0
_LONGEST_BEAT = 60.0
# Heartbeats that a worker must miss before its lease ends. Fewer without locks, because then only
# the lease shows that a worker on another host is dead.
_BEATS = 15
_BEATS_WITHOUT_LOCKS = 10


@dataclass(frozen=True, slots=True)
class Setting:
    """A recommended value of a setting, and the reason."""

    name: str
    value: str | float
    reason: str


def recommend(findings: Sequence[Finding]) -> list[Setting]:
    """The settings that fit the findings."""
    heartbeat = _heartbeat(findings)
    return [
        _watch(findings),
        _poll_interval(findings),
        heartbeat,
        _lease(findings, float(heartbeat.value)),
        _durability(findings),
    ]


def _default(name: str) -> float:
    return float(fields()[name].default)


def _watch(findings: Sequence[Finding]) -> Setting:
    if facts_of(findings, "wake-ups").get("push"):
        return Setting("watch", "auto", "the file server wakes other hosts")
    if facts_of(findings, "filesystem").get("remote"):
        return Setting("watch", "auto", "polls here: file events do not cross hosts")
    if facts_of(findings, "events").get("events"):
        return Setting("watch", "auto", "file events work")
    return Setting("watch", "poll", "there are no file events")


def _poll_interval(findings: Sequence[Finding]) -> Setting:
    default = _default("poll_interval")
    if not facts_of(findings, "filesystem").get("remote"):
        return Setting("poll_interval", default, "only changes that file events miss wait for it")
    costs = facts_of(findings, "latency")
    poll = number(costs, "list") + number(costs, "touch")
    value = min(max(_SHARE * poll, _QUICKEST), _SLOWEST)
    return Setting("poll_interval", round(value, 1), f"one poll costs {in_words(poll)}")


def _heartbeat(findings: Sequence[Finding]) -> Setting:
    default = _default("heartbeat")
    step = number(facts_of(findings, "clock"), "granularity")
    late = number(facts_of(findings, "sees beat"), "slowest")
    least = 2 * max(step, late)
    if least <= default:
        return Setting("heartbeat", default, "the default: beats are seen at once")
    value = float(min(math.ceil(least), _LONGEST_BEAT))
    return Setting("heartbeat", value, f"beats are seen {in_words(max(step, late))} late")


def _lease(findings: Sequence[Finding], heartbeat: float) -> Setting:
    default = _default("lease")
    if not facts_of(findings, "filesystem").get("remote"):
        value = max(default, _BEATS * heartbeat)
        return Setting("lease", value, "deaths on this host are noticed at once, without the lease")
    if facts_of(findings, "flock lock").get("excludes"):
        value = max(default, _BEATS * heartbeat)
        return Setting("lease", value, "locks show most deaths sooner")
    value = max(default / 2, _BEATS_WITHOUT_LOCKS * heartbeat)
    return Setting("lease", value, "nothing else shows deaths on other hosts")


def _durability(findings: Sequence[Finding]) -> Setting:
    cost = number(facts_of(findings, "latency"), "power")
    if not facts_of(findings, "durability").get("fsync"):
        return Setting("durability", "crash", '"power" is not possible here')
    return Setting("durability", "crash", f'"power" costs a call about {in_words(cost)} more')


def as_toml(root: str, settings: Sequence[Setting]) -> str:
    """The settings as a file ``fsqueue.toml``."""
    quoted = root.replace("\\", "\\\\").replace('"', '\\"')
    lines = [("root", f'"{quoted}"', "")]
    for each in settings:
        value = f'"{each.value}"' if isinstance(each.value, str) else f"{each.value:g}"
        lines.append((each.name, value, each.reason))
    return "\n".join(
        f"{name} = {value}" + (f"  # {reason}" if reason else "") for name, value, reason in lines
    )
