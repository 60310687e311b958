"""A bounded set of strings."""

from __future__ import annotations

import threading


class RecentTexts:
    """Remembers the strings that were added last, and forgets the oldest ones. Thread-safe.

    A process that lives for months must not grow with every bad file that it finds.

    Args:
        limit: number of strings to remember.
    """

    def __init__(self, limit: int = 1_000) -> None:
        self._limit = limit
        self._mutex = threading.Lock()
        self._texts: dict[str, None] = {}

    def add(self, text: str) -> bool:
        """Remember a string; False if it was remembered already."""
        with self._mutex:
            if text in self._texts:
                return False
            self._texts[text] = None
            if len(self._texts) > self._limit:
                del self._texts[next(iter(self._texts))]
            return True

    def __contains__(self, text: str) -> bool:
        return text in self._texts

    def __len__(self) -> int:
        return len(self._texts)
