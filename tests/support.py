"""What tests of all kinds need."""

from __future__ import annotations

import asyncio
import json
import os
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from fsqueue.codec import PYTHON
from fsqueue.runner.attempt.endings import settle
from fsqueue.runner.attempt.execute import execute
from fsqueue.spool.caller.client import Draft
from fsqueue.spool.disk.link_records import link_text, read_link
from fsqueue.spool.format.names import DEFAULT_PRIORITY
from fsqueue.spool.format.records import Call
from fsqueue.spool.store import open_spool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from fsqueue.config import RecordKind
    from fsqueue.runner.attempt.answers import Ending
    from fsqueue.runner.attempt.context import WorkerContext
    from fsqueue.spool.caller.client import Client, Receipt
    from fsqueue.spool.disk.filesystem import Filesystem
    from fsqueue.spool.features.deduplication import Key
    from fsqueue.spool.format.claim import Claim
    from fsqueue.spool.store.store import Store
    from fsqueue.spool.worker.registration import Worker

T = TypeVar("T")

# Far above what anything takes: the machine may be busy with other things.
PATIENCE = 60.0
_PAUSE = 0.002
_LONGEST_LINK = 4095

# All that the tests can try. Without it they leave out what is likely to show nothing new: other
# kinds of slots, of faults and of ends where the code is the same. `.ci/run` sets it.
WHOLE = bool(os.environ.get("FSQUEUE_TESTS_WHOLE"))


# What small records are in the spools of the tests: "files" or "links".
RECORDS: RecordKind = "links" if os.environ.get("FSQUEUE_TESTS_RECORDS") == "links" else "files"


def open_store(
    root: str | Path,
    filesystem: Filesystem | None = None,
    key: bytes = b"",
    *,
    expected: str = "",
    records: RecordKind = RECORDS,
) -> Store:
    """See `fsqueue.spool.store.open_spool.open_store`."""
    return open_spool.open_store(Path(root), filesystem, key, expected=expected, records=records)


def wait_until(
    condition: Callable[[], T],
    what: str | Callable[[], str] = "",
    *,
    timeout: float = PATIENCE,
    pause: float = _PAUSE,
) -> T:
    """Ask until the answer is true, and return it.

    Args:
        condition: the question.
        what: names the condition in the failure.
        timeout: seconds after which the test fails.
        pause: seconds between two questions.
    """
    deadline = time.monotonic() + timeout
    while not (answer := condition()):
        if time.monotonic() >= deadline:
            shown = what() if callable(what) else what
            raise AssertionError(f"not within {timeout:g} s: {shown or condition}")
        time.sleep(pause)
    return answer


async def async_wait_until(condition: Callable[[], T], *, what: str = "") -> T:
    """The same for a test that runs in an event loop, which goes on meanwhile."""
    deadline = time.monotonic() + PATIENCE
    while not (answer := condition()):
        if time.monotonic() >= deadline:
            raise AssertionError(f"not within {PATIENCE:g} s: {what or condition}")
        await asyncio.sleep(_PAUSE)
    return answer


def execute_claim(context: WorkerContext, claim: Claim, worker: Worker) -> Ending:
    """Take a call from its claim to its result, as a slot does."""
    publish = partial(settle, release=worker.release)
    return publish(execute(context, claim, publish))


def publish_call(
    client: Client,
    invocation_id: str,
    task: str,
    queue: str,
    payload: Sequence[bytes],
    *,
    priority: int = DEFAULT_PRIORITY,
    delay: float = 0.0,
    ring: bool = True,
    once: Key | None = None,
    parent: str = "",
    **fields: Any,
) -> Receipt:
    """Publish a call with this id and these fields of its header, as a publisher does."""
    ticket = client.ticket(priority, delay)
    call = Call(
        id=invocation_id,
        spool=ticket.spool,
        task=task,
        queue=queue,
        slot=ticket.slot,
        created=round(ticket.now, 3),
        python=PYTHON,
        segments=tuple(map(len, payload)),
        **{"codec": "cloudpickle", "caller": None if fields["keep"] else ticket.caller, **fields},
    )
    return client.publish(Draft(call, payload, once=once, parent=parent), ring=ring)


def files_under(folder: str | os.PathLike[str]) -> Iterator[str]:
    """Relative paths of all that is no folder, at any depth."""
    for where, _, names in os.walk(folder):
        for name in names:
            yield os.path.relpath(os.path.join(where, name), folder)


def strays(root: str | os.PathLike[str]) -> list[str]:
    """What must not be left in a spool when all its clients and workers have left.

    Calls that are pending, outcomes that nobody collected, failed calls and the quarantine may
    stay; so may the bells of queues and the stamp of the shared upkeep, which belong to nobody.
    """
    if not os.path.isdir(root):
        return []
    found = []
    for folder in ("tmp", "running", "workers", "clients"):
        found += [
            f"{folder}/{name}"
            for name in _names(root, folder)
            if folder != "clients" or not name.endswith(".json")  # they tell about former runs
        ]
    found += [f"bell/{name}" for name in _names(root, "bell") if "." not in name]
    found += [f"locks/{name}" for name in _names(root, "locks") if name != "upkeep"]
    found += [
        f"done/{client}/ (empty)"
        for client in _names(root, "done")
        if not os.listdir(os.path.join(root, "done", client))
    ]
    return found


def _names(root: str | os.PathLike[str], folder: str) -> list[str]:
    try:
        return sorted(os.listdir(os.path.join(root, folder)))
    except FileNotFoundError:
        return []


def upgrade(root: str | os.PathLike[str]) -> None:
    """Let a spool say that it has a newer format, as a newer version does before it writes any."""
    path = os.path.join(root, "spool.json")
    with open(path, "rb") as file:
        info = json.load(file)
    rewrite(path, json.dumps(info | {"format": 99}).encode())


def rewrite(path: str, data: bytes) -> None:
    """Change a record as another process would: in one step, from beside the slots of a queue.

    A link stays one, unless it would be too long.
    """
    temporary = f"{path.partition('/pending/')[0]}~"
    text = link_text([data], _LONGEST_LINK) if os.path.islink(path) else None
    if text is not None:
        os.symlink(text, temporary)
    else:
        with open(temporary, "wb") as file:
            file.write(data)
    os.rename(temporary, path)


def read_record(path: str) -> bytes:
    """The content of a record, whether it is a file or a link."""
    if os.path.islink(path):
        return read_link(path)
    with open(path, "rb") as file:
        return file.read()


def as_file(path: str) -> None:
    """Put a file in the place of a record that is a link."""
    if os.path.islink(path):
        data = read_link(path)
        os.unlink(path)
        with open(path, "wb") as file:
            file.write(data)
