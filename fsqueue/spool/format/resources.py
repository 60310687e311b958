"""Resources: the amounts that calls need and workers have, by name.

A call's needs are part of the name of its queue's folder, for example ``gpu-1_mem-64G``. This part
is called a profile. It lets workers know the needs without opening files. Equal needs have the same
profile, however they were written: names are sorted, a dot is a ``p``, and a whole number has the
largest of the suffixes K, M, G, T (powers of 1024) that divides it.

A profile can also contain the walltime that a call may need, such as ``walltime-1800``. A walltime
is not a resource: it is compared with the time that a worker has left, which is unlimited unless
the worker has a time limit. Running calls do not use it up. A version of fsqueue that does not know
walltimes treats it as a resource, and leaves these calls to other workers.
"""

from __future__ import annotations

import bisect
import math
import re
from collections.abc import Container, Iterable, Mapping
from typing import Final, TypeAlias

from fsqueue.common.values import format_duration, parse_duration, plain
from fsqueue.spool.format.names import is_safe_name, split_profile

Amounts: TypeAlias = Mapping[str, int]
"""Amounts by resource, in thousandths."""

Resources: TypeAlias = Mapping[str, float | str]
"""Amounts by resource, as users write them: 1, 0.5 or "64G"."""

NONE: Final[Amounts] = {}
WALLTIME: Final = "walltime"
"""The key, among a call's needs, of the time that it may need, in milliseconds."""
_UNIT = 1000
# Only a few steps, so that a queue has few folders: from a minute to a week, in seconds.
_STEPS: Final = (
    *(60, 120, 300, 600, 900, 1800),
    *(3600 * hours for hours in (1, 2, 4, 8, 12, 24, 48, 96, 168)),
)
_SUFFIXES = {"T": 1 << 40, "G": 1 << 30, "M": 1 << 20, "K": 1 << 10, "": 1}
_NAME = re.compile(r"[a-z][a-z0-9]*", re.ASCII)
_AMOUNT = re.compile(r"(\d{1,15})(?:\.(\d{1,3}))?([KMGT]?)", re.ASCII)


def amounts(given: Resources | str | Iterable[str]) -> Amounts:
    """Parse amounts as users write them; amounts of 0 are left out.

    Args:
        given: amounts by name, or one or more texts like ``gpu=1 mem=64G``.

    Raises:
        ValueError: a name or an amount is invalid.
    """
    if isinstance(given, Mapping):
        pairs = [(name, _text(amount)) for name, amount in given.items()]
    else:
        texts = [given] if isinstance(given, str) else given
        words = [word for text in texts for word in re.split(r"[,\s]+", text) if word]
        pairs = [(name, amount) for name, _, amount in (word.partition("=") for word in words)]
    found: dict[str, int] = {}
    for name, amount in pairs:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ValueError(f"{name!r}: expected a name of small letters and digits, like gpu")
        if name in found:
            raise ValueError(f"{name} is given twice")
        found[name] = _thousandths(name, amount)
    return {name: found[name] for name in sorted(found) if found[name]}


def given_amounts(given: Resources | str | Iterable[str]) -> Amounts:
    """Parse the resources of a task or worker; like `amounts`, but ``walltime`` is no resource.

    Raises:
        ValueError: a name or an amount is invalid.
    """
    found = amounts(given)
    if WALLTIME in found:
        raise ValueError(
            "walltime is not a resource: give tasks the option `walltime`, and workers a time limit"
        )
    return found


def _text(amount: object) -> str:
    amount = plain(amount)
    return repr(amount) if isinstance(amount, int | float) else str(amount)


def _thousandths(name: str, text: str) -> int:
    match = _AMOUNT.fullmatch(text)
    if match is None and name == WALLTIME and (seconds := parse_duration(text)) is not None:
        return round(seconds * _UNIT)  # as `in_words` writes it
    if match is None:
        raise ValueError(
            f"{name}={text}: expected a number with up to three decimals, optionally followed by "
            "K, M, G or T, like 1, 0.5 or 64G"
        )
    whole, decimals, suffix = match[1], match[2] or "", match[3]
    return (int(whole) * _UNIT + int(decimals.ljust(3, "0"))) * _SUFFIXES[suffix]


def profile_of(needed: Amounts) -> str:
    """The profile for some needs; empty if nothing is needed.

    Raises:
        ValueError: the profile is too long for a name.
    """
    profile = "_".join(f"{name}-{_shown(needed[name], 'p')}" for name in sorted(needed))
    if profile and not is_safe_name(profile):
        raise ValueError(
            f"{profile!r} is longer than 64 characters: use fewer resources or shorter names"
        )
    return profile


def needs_of(profile: str) -> Amounts | None:
    """The needs in a profile; None if `profile_of` would not write it this way."""
    if not profile:
        return NONE
    try:
        pairs = (part.partition("-") for part in profile.split("_"))
        found = amounts([f"{name}={amount.replace('p', '.')}" for name, _, amount in pairs])
        return found if profile_of(found) == profile else None
    except ValueError:
        return None


def profile_with_walltime(profile: str, seconds: float) -> str:
    """Add a walltime to a profile, rounded up to the next step.

    Raises:
        ValueError: the profile is too long for a name.
    """
    index = bisect.bisect_left(_STEPS, seconds)
    week = _STEPS[-1]
    rounded = _STEPS[index] if index < len(_STEPS) else math.ceil(seconds / week) * week
    return profile_of({**(needs_of(profile) or NONE), WALLTIME: rounded * _UNIT})


def walltime_of(needed: Amounts) -> float:
    """The time that a call may need, in seconds; 0 if unknown."""
    return needed.get(WALLTIME, 0) / _UNIT


def without_walltime(needed: Amounts) -> Amounts:
    """The needed resources without the walltime."""
    if WALLTIME not in needed:
        return needed
    return {name: amount for name, amount in needed.items() if name != WALLTIME}


def in_words(held: Amounts) -> str:
    """Amounts as text, such as ``gpu=1 mem=64G walltime=30m``."""
    return " ".join(
        f"{name}={format_duration(walltime_of(held))}"
        if name == WALLTIME
        else f"{name}={_shown(amount, '.')}"
        for name, amount in sorted(held.items())
    )


def _shown(amount: int, point: str) -> str:
    whole, rest = divmod(amount, _UNIT)
    if rest:
        return f"{whole}{point}{rest:03d}".rstrip("0")
    suffix = next(each for each, factor in _SUFFIXES.items() if whole % factor == 0)
    return f"{whole // _SUFFIXES[suffix]}{suffix}"


def covers(held: Amounts, needed: Amounts) -> bool:
    """Whether `held` has enough of each needed resource and enough time (unlimited if unset)."""
    endless = needed.get(WALLTIME, 0)
    return all(
        held.get(name, endless if name == WALLTIME else 0) >= amount
        for name, amount in needed.items()
    )


def takes(queues: Container[str], held: Amounts, folder: str) -> bool:
    """Whether a worker can take the calls in a queue's folder.

    Args:
        queues: folder names of the queues that it serves.
        held: its resources, and the time that it has left, if limited.
        folder: the folder's name.
    """
    queue, profile = split_profile(folder)
    needed = needs_of(profile)
    return queue in queues and needed is not None and covers(held, needed)


def with_time(held: Amounts, left: float | None) -> Amounts:
    """Resources together with the remaining time in seconds; None: no limit."""
    if left is None or left == math.inf:
        return held
    return {**held, WALLTIME: int(max(0.0, left) * _UNIT)}


def needs_in_words(needed: Amounts) -> str:
    """Needs as a part of a sentence, such as ``gpu=8 and 6h``."""
    walltime = walltime_of(needed)
    parts = [in_words(without_walltime(needed)), format_duration(walltime) if walltime else ""]
    return " and ".join(filter(None, parts))


def demand_in_words(calls: int, queue: str, needed: Amounts) -> str:
    """What some calls need, such as ``12 calls of queue default need gpu=8 and 6h``.

    Args:
        calls: their number.
        queue: folder name of their queue, without a profile.
    """
    told = f"{calls} calls of queue" if calls != 1 else "1 call of queue"
    told = f"{told} {queue.partition('.')[2] or queue}"
    need = needs_in_words(needed)
    return f"{told} {'need' if calls != 1 else 'needs'} {need}" if need else told


def times(held: Amounts, needed: Amounts) -> int | None:
    """How many times the needed resources fit into `held`; None if nothing is needed."""
    resources = without_walltime(needed).items()
    return min((held.get(name, 0) // amount for name, amount in resources), default=None)


def queue_in_words(folder: str) -> str:
    """The queue of a folder, with the resources of its calls, such as ``app.default (gpu=1)``."""
    queue, profile = split_profile(folder)
    need = in_words(needs_of(profile) or NONE)
    return f"{queue} ({need})" if need else folder
