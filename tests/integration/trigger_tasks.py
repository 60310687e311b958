"""What triggers of the tests call, and how they see that all is done."""

from __future__ import annotations

from support import files_under, wait_until

from fsqueue import RetryError, current_invocation
from integration import sample_tasks

seen = []


def note(*args, **kwargs):
    seen.append((args, kwargs) if kwargs else args)


def quiet(): ...


def behind(name):
    return sample_tasks.gates[name].wait(60)


def source(value):
    if isinstance(value, Exception):
        raise value
    return value


def fussy():
    if current_invocation().retries == 0:
        raise RetryError(delay=0.0)
    return "done"


def result_of(occurrence):
    return (occurrence.invocation, str(occurrence.state), occurrence.result or occurrence.exception)


def payloads_of(occurrence):
    return tuple(part.payload for part in occurrence.parts)


def when_of(occurrence):
    return (int(occurrence.id),)


def settled(app):
    """All events are handled and all calls have ended."""
    store = app.store
    wait_until(lambda: not store.fs.names(store.layout.events(app.app_id)), what="events handled")
    # Workers remove empty slots, and their own folders, at any time.
    pending = store.layout.queue(f"{app.app_id}.default")
    wait_until(lambda: not list(files_under(pending)), what="calls started")
    running = store.layout.running_folder
    wait_until(lambda: not list(files_under(running)), what="calls ended")
    return list(seen)
