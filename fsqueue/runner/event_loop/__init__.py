"""The event loop in which a process runs coroutine bodies."""
