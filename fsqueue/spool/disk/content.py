"""Types for the bytes of a file, as they are written and read."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Buffer: TypeAlias = bytes | bytearray | memoryview
"""One chunk of what is to be written."""


class Piece(NamedTuple):
    """A part of a file that is read into separate memory."""

    size: int
    """In bytes."""
    writable: bool = False


Content: TypeAlias = "list[bytes | bytearray]"
"""The content of a file, in one piece or in several whose sizes its first line gives."""

Cut: TypeAlias = "Callable[[bytes, str], Sequence[Piece]]"
"""Computes the pieces of a file from its first bytes and its path."""
