"""Fires triggers: finds what has happened, and makes the calls that follow, once each.

Modules::

    engine      what triggers do about what has happened
    watched     the triggers that a process watches
    bound       a trigger of a task, and what the user has put into it
    ends        what has happened when a call ends
    inline      the same in sync mode, where tasks run in the calling thread
    travel      what has happened, as bytes
"""

from __future__ import annotations

from fsqueue.firing.engine import Firing

__all__ = ["Firing"]
