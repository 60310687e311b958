"""Numbers, times and durations as the pages show them."""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from typing import TYPE_CHECKING, NamedTuple
from zoneinfo import ZoneInfo

from fsqueue.common.printable import duration

if TYPE_CHECKING:
    from collections.abc import Sequence

_DAY = 72_000.0
_TINY, _HUNDRED = 1e-3, 100.0
_SECOND = 1.0
_DIGITS = 9


def number(text: str) -> int | None:
    """The number in a field of an address or a form; None unless it is one of up to 9 digits."""
    return int(text) if text.isdecimal() and len(text) <= _DIGITS else None


def rate(per_second: float) -> str:
    """How often something happens, such as ``41.3 a second`` or ``12 a minute``."""
    if per_second >= _SECOND:
        return f"{per_second:.3g} a second"
    return f"{60 * per_second:.2g} a minute"


def percent(part: float, whole: float) -> str:
    """A share in percent, with two digits; a share above zero is never shown as 0."""
    if not whole or not part:
        return "0 %"
    share = 100 * part / whole
    return f"{share:.0f} %" if share >= 10 else f"{max(share, 0.01):.2g} %"  # noqa: PLR2004


def precise(seconds: float | None) -> str:
    """A duration with the two or three digits that are known; a dash for None."""
    if seconds is None:
        return "-"
    if seconds < _TINY:
        return "<1 ms"
    if seconds < _SECOND:
        return f"{1000 * seconds:.0f} ms"
    return f"{seconds:.1f} s" if seconds < _HUNDRED else duration(seconds)


def period(seconds: float) -> str:
    """A window in words, to follow "the last": ``hour``, ``15 minutes``, ``7 days``."""
    for size, noun, least in ((86_400, "day", 2), (3600, "hour", 1), (60, "minute", 1)):
        number = round(seconds / size)
        if number >= least:
            return noun if number == 1 else f"{number} {noun}s"
    return "minute"


def listed(words: Sequence[str], most: int = 3) -> str:
    """Words in a sentence: the first few, and how many more there are."""
    shown = list(words[:most])
    more = len(words) - len(shown)
    return ", ".join(shown) + (f" and {more:,} more" if more > 0 else "")


class Clock(NamedTuple):
    """Writes times of the file server's clock in a reader's time zone."""

    now: float
    zone: tzinfo | None

    def at(self, seconds: float | None) -> str:
        """A time of day, with the date if it is not today."""
        moment = self._moment(seconds)
        if moment is None or seconds is None:
            return "-"
        near = abs(seconds - self.now) < _DAY
        return f"{moment:%H:%M}" if near else f"{moment:%d %b %H:%M}"

    def exact(self, seconds: float | None) -> str:
        """A time with date and seconds."""
        moment = self._moment(seconds)
        return "-" if moment is None else f"{moment:%Y-%m-%d %H:%M:%S}"

    def iso(self, seconds: float | None) -> str:
        """A time for programs, with the offset of the zone."""
        moment = self._moment(seconds)
        return "" if moment is None else moment.isoformat(timespec="seconds")

    @property
    def name(self) -> str:
        """The zone in words, such as ``UTC+01:00``."""
        moment = self._moment(self.now)
        if moment is None or not moment.utcoffset():
            return "UTC"
        return f"UTC{moment.isoformat()[-6:]}"

    def _moment(self, seconds: float | None) -> datetime | None:
        if not seconds:
            return None
        try:
            return datetime.fromtimestamp(seconds, UTC).astimezone(self.zone)
        except (OverflowError, ValueError, OSError):  # a file can contain any number
            return None


def zone_of(name: str) -> tzinfo | None:
    """A time zone by the name that browsers report; None (this host's zone) if it is unknown."""
    try:
        return ZoneInfo(name) if name and "/" in name else UTC if name == "UTC" else None
    except (OSError, ValueError, KeyError):
        return None
