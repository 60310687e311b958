"""The time that a cancelled coroutine has to clean up."""

from typing import Final

CLEANUP: Final = 3.0
"""Seconds that a cancelled coroutine has to clean up. After that, it is cancelled again or its
process is killed. With the default `stop_grace` of 25 s it fits into the 30 s that
batch systems leave."""
