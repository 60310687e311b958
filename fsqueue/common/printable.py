"""Text from files, made safe to print.

Error messages, task names and tracebacks come from files that others may write. Printed as they
are, control characters would give commands to the terminal, and line ends would add lines to a log
that look like the log's own.
"""

from __future__ import annotations

CONTINUED = "  | "
"""Stands before each line of a log record after its first."""


def printable(text: str, *, keep: str = "") -> str:
    r"""A text without control characters: they appear as escapes, such as ``\n`` or ``\x1b``.

    So do line separators, bidirectional controls and halves of surrogate pairs.

    Args:
        text: from anywhere.
        keep: characters that stay as they are.
    """
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() or each in keep else ascii(each)[1:-1] for each in text
    )


def indented(text: str, prefix: str = "  ") -> str:
    """Several lines, each after a prefix, and otherwise `printable`."""
    lines = printable(text.replace("\r\n", "\n"), keep="\n\t").split("\n")
    return "\n".join(prefix + line for line in lines)
