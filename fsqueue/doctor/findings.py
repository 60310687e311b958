"""What a probe has found."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Fact = str | int | float | bool | None


class Verdict(enum.StrEnum):
    """How a finding bears on a queue; the order is that of their weight."""

    OK = "ok"
    WEAK = "weak"
    """A queue works, and something is weaker or slower than it could be."""
    BAD = "bad"
    """No queue should be there."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One property of the directory.

    Args:
        name: of the probe.
        verdict: see `Verdict`.
        measured: what was seen, with figures.
        meaning: what this is to a queue.
        advice: what to do about it; empty if there is nothing to do.
        facts: the same figures for programs, times in seconds.
    """

    name: str
    verdict: Verdict
    measured: str
    meaning: str
    advice: str = ""
    facts: Mapping[str, Fact] = field(default_factory=dict)


def worst(findings: Sequence[Finding]) -> Verdict:
    """The verdict on a directory with these findings."""
    order = list(Verdict)
    return max((finding.verdict for finding in findings), key=order.index, default=Verdict.OK)


def facts_of(findings: Sequence[Finding], name: str) -> Mapping[str, Fact]:
    """What a probe has measured; nothing if it did not run."""
    return next((finding.facts for finding in findings if finding.name == name), {})


def number(facts: Mapping[str, Fact], key: str, default: float = 0.0) -> float:
    """A measured number."""
    value = facts.get(key)
    return float(value) if isinstance(value, int | float) else default


def median(times: Sequence[float]) -> float:
    """The middle one; 0 if there is none."""
    from statistics import median as middle  # which loads fractions and decimals

    return middle(times) if times else 0.0


def in_words(seconds: float) -> str:
    """A duration that a person can read: 12 us, 3.4 ms, 1.2 s."""
    for unit, scale in (("s", 1.0), ("ms", 1e3), ("us", 1e6)):
        if abs(seconds) * scale >= 1 or unit == "us":
            value = seconds * scale
            return f"{value:.1f} {unit}" if abs(value) < 10 else f"{value:.0f} {unit}"  # noqa: PLR2004
    return ""
