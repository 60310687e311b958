"""Findings of the probes."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Fact = str | int | float | bool | None


class Verdict(enum.StrEnum):
    """What a finding means for a queue, from harmless to serious."""

    OK = "ok"
    WEAK = "weak"
    """A queue works, but something is weaker or slower than it could be."""
    BAD = "bad"
    """No queue should be placed there."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A finding: one property of the directory.

    Args:
        name: name of the probe.
        verdict: see `Verdict`.
        measured: what was measured, with figures.
        meaning: what this means for a queue.
        advice: what to do about it; empty if there is nothing to do.
        facts: the same figures for programs; times in seconds.
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
    """The facts of a finding; empty if the probe did not run."""
    return next((finding.facts for finding in findings if finding.name == name), {})


def number(facts: Mapping[str, Fact], key: str, default: float = 0.0) -> float:
    """A fact that is a number, or the default."""
    value = facts.get(key)
    return float(value) if isinstance(value, int | float) else default


def median(times: Sequence[float]) -> float:
    """The median; 0 if there are no times."""
    from statistics import median as middle  # which loads fractions and decimals

    return middle(times) if times else 0.0


def in_words(seconds: float) -> str:
    """A duration for people, such as ``12 us``, ``3.4 ms`` or ``1.2 s``."""
    for unit, scale in (("s", 1.0), ("ms", 1e3), ("us", 1e6)):
        if abs(seconds) * scale >= 1 or unit == "us":
            value = seconds * scale
            return f"{value:.1f} {unit}" if abs(value) < 10 else f"{value:.0f} {unit}"  # noqa: PLR2004
    return ""
