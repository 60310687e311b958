"""Types for the content of files, as written and as read."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Buffer: TypeAlias = bytes | bytearray | memoryview
"""One chunk of content to write."""


class Piece(NamedTuple):
    """A part of a file that is read into its own block of memory."""

    size: int
    """In bytes."""
    writable: bool = False


Content: TypeAlias = "list[bytes | bytearray]"
"""A file's content, in one piece or in several, whose sizes are in its first line."""

Cut: TypeAlias = "Callable[[bytes, str], Sequence[Piece]]"
"""Computes a file's pieces from its first bytes and its path."""
