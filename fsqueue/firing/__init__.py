"""Fires triggers: detects occurrences, and publishes each resulting call once.

An occurrence is a tick, an event, or the end of a call.

Modules::

    engine      detects occurrences and fires the triggers that wait for them
    watched     the triggers that a process watches
    bound       a trigger of a task, and the user's functions in it
    ends        the occurrences of the end of a call
    inline      triggers in sync mode, where tasks run in the calling thread
    travel      serializes occurrences
"""

from __future__ import annotations

from fsqueue.firing.engine import Firing

__all__ = ["Firing"]
