"""Makes text from files safe to print.

Error messages, task names and tracebacks come from files that other users may write. Without
escapes, control characters would give commands to the terminal, and line ends would add lines to a
log that look like its own records.
"""

from __future__ import annotations

_MINUTE, _HOUR, _DAY = 60, 3600, 86_400
_FEW = 10

CONTINUED = "  | "
"""Prefix of the second and later lines of a log record."""


def printable(text: str, *, keep: str = "") -> str:
    r"""Text with control characters replaced by escapes such as ``\n`` or ``\x1b``.

    Line separators, bidirectional controls and halves of surrogate pairs are replaced too.

    Args:
        keep: characters to leave unchanged.
    """
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() or each in keep else ascii(each)[1:-1] for each in text
    )


def indented(text: str, prefix: str = "  ") -> str:
    """Several lines, each made printable and with a prefix."""
    lines = printable(text.replace("\r\n", "\n"), keep="\n\t").split("\n")
    return "\n".join(prefix + line for line in lines)


def duration(seconds: float | None) -> str:
    """A duration in seconds as a short string, such as ``4.2s``, ``3m05s`` or ``2d04h``."""
    if seconds is None:
        return "-"
    if seconds < _FEW:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    for size, unit, below, part in ((_DAY, "d", _HOUR, "h"), (_HOUR, "h", _MINUTE, "m")):
        if whole >= size:
            return f"{whole // size}{unit}{whole % size // below:02d}{part}"
    return f"{whole // _MINUTE}m{whole % _MINUTE:02d}s" if whole >= _MINUTE else f"{whole}s"


def counted(number: int, noun: str) -> str:
    """A number with its noun, such as ``1 call`` or ``86,112 calls``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def moment(seconds: float) -> str:
    """A time of the file server's clock as a string, in this machine's time zone."""
    from datetime import UTC, datetime

    try:
        local = datetime.fromtimestamp(seconds, UTC).astimezone()
    except (OverflowError, ValueError, OSError):  # a file can contain any number
        return f"{seconds:g}"
    return local.isoformat(sep=" ", timespec="seconds")
