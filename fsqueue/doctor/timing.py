"""Probes of time: the file server's clock, the cost of operations, file events."""

from __future__ import annotations

import contextlib
import os
import time
from itertools import pairwise
from typing import TYPE_CHECKING, ParamSpec

from fsqueue.doctor.findings import Finding, Verdict, in_words, median, number
from fsqueue.spool.disk.mounts import is_remote
from fsqueue.spool.wakeups.bell import listening
from fsqueue.spool.wakeups.watching import Alarm

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fsqueue.doctor.findings import Fact
    from fsqueue.doctor.workspace import Workspace
    from fsqueue.spool.disk.filesystem import Filesystem

P = ParamSpec("P")

_ROUNDS = 60
_SYNCS = 8
_BUDGET = 3.0
_LISTED = 200
_GLANCES = 5
# Time steps of this length, in seconds, would hide a heartbeat.
_COARSE = 0.5
_CLOCK_WRONG = 60.0
_GRAIN_PATIENCE = 5.0
_GRAIN_PAUSE, _LONGEST_GRAIN_PAUSE = 0.0005, 0.02
_SLOW_CALL = 0.2
_WAKE_PATIENCE = 2.0


def clock(place: Workspace) -> Finding:
    """The offset of the file server's clock from this host's, and the resolution of file times."""
    offset = clock_offset(place.fs, place.path("clock"))
    grain = _granularity(place)
    wrong, coarse = abs(offset) > _CLOCK_WRONG, grain > _COARSE
    meaning = ["fsqueue uses the file server's times: no decision compares the clocks of hosts"]
    advice = []
    if wrong:
        meaning.append("commands will show wrong times on this host")
        advice.append("set the clock of this host or of the file server")
    if coarse:
        meaning.append("heartbeats within one step cannot be told apart")
        advice.append("make heartbeat and lease longer, as in the settings below")
    return Finding(
        "clock",
        Verdict.WEAK if wrong or coarse else Verdict.OK,
        f"the file server is {in_words(abs(offset))} {'ahead of' if offset > 0 else 'behind'} this "
        f"host; times come in steps of {in_words(grain)}",
        "; ".join(meaning),
        "; ".join(advice),
        {"offset": round(offset, 6), "granularity": grain},
    )


def clock_offset(fs: Filesystem, path: str) -> float:
    """Seconds by which the file server's clock is ahead of this host's; touches `path`."""
    best, offset = float("inf"), 0.0
    for _ in range(_GLANCES):
        before = time.time()
        fs.touch(path)
        took = time.time() - before
        if took < best:  # the fastest reply has the smallest error
            best, offset = took, fs.modified(path) - (before + took / 2)
    return offset


def _granularity(place: Workspace) -> float:
    """The smallest step between the times of successive touches, in seconds."""
    path = place.path("clock")
    deadline = time.monotonic() + _GRAIN_PATIENCE
    times: set[float] = set()
    pause = 0.0
    while time.monotonic() < deadline and len(times) < _ROUNDS:
        place.fs.touch(path)
        known = len(times)
        times.add(place.fs.modified(path))
        # Polling faster does not make a coarse step come sooner.
        pause = 0.0 if len(times) > known else min(pause + _GRAIN_PAUSE, _LONGEST_GRAIN_PAUSE)
        time.sleep(pause)
    ordered = sorted(times)
    steps = [round(after - before, 6) for before, after in pairwise(ordered)]
    return min(steps, default=_GRAIN_PATIENCE)


def latency(place: Workspace) -> Finding:
    """The time that each operation takes, and the sum for one call."""
    times = _measure(place)
    facts: dict[str, Fact] = {verb: round(median(each), 9) for verb, each in times.items()}
    a_call = round(_cost_of_call(facts), 6)
    facts["call"] = a_call
    facts["power"] = round(4 * number(facts, "fsync_file") + 6 * number(facts, "fsync_folder"), 6)
    dear = number(facts, "create") > 20 * number(facts, "rename") > 0 and not is_remote(place.root)
    slow = a_call > _SLOW_CALL
    meaning = f"the files of one call cost about {in_words(a_call)}"
    if dear:
        meaning += (
            "; creating files costs far more here than moving them, as on ext4 without a journal"
        )
    return Finding(
        "latency",
        Verdict.WEAK if slow or dear else Verdict.OK,
        ", ".join(
            f"{verb} {in_words(cost)}"
            for verb, cost in facts.items()
            if isinstance(cost, float) and verb not in {"call", "power"}
        ),
        meaning,
        "put more work into each call, or use a faster filesystem" if slow or dear else "",
        facts,
    )


def _cost_of_call(facts: Mapping[str, Fact]) -> float:
    """The time of a blocking call (docs/design/protocol.md): publish, claim, complete, collect."""
    parts = {"create": 2, "rename": 2, "link": 1, "unlink": 3, "list": 3, "touch": 3, "read": 2}
    return sum(times * number(facts, verb) for verb, times in parts.items())


def _measure(place: Workspace) -> dict[str, list[float]]:
    fs, folder, full = place.fs, place.make("latency"), place.make("listed")
    times: dict[str, list[float]] = {}
    _fill(place, full)

    def timed(verb: str, act: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        before = time.perf_counter()
        act(*args, **kwargs)
        times.setdefault(verb, []).append(time.perf_counter() - before)

    deadline = time.monotonic() + _BUDGET
    linkable = True
    for turn in range(_ROUNDS):
        one, two, deeper = f"{folder}/{turn}", f"{folder}/{turn}.b", f"{folder}/{turn}.d"
        timed("create", fs.create, one, [b"x" * 500])
        timed("rename", fs.rename, one, two)
        if linkable:
            try:
                timed("link", fs.link, two, one)
                fs.unlink(one)
            except OSError:
                linkable = False
        timed("read", fs.read, two)
        timed("touch", fs.touch, two)
        timed("mkdir", fs.mkdir, deeper)
        timed("list", fs.names, full)
        timed("rmdir", fs.rmdir, deeper)
        timed("fsync_file", _sync, two, os.O_WRONLY, b"y")
        timed("fsync_folder", _sync, folder, os.O_RDONLY | os.O_DIRECTORY)
        timed("unlink", fs.unlink, two)
        if time.monotonic() > deadline and turn >= _SYNCS:
            break
    return times


def _fill(place: Workspace, folder: str) -> None:
    """Fill a folder that is to be listed, for at most `_BUDGET` seconds."""
    deadline = time.monotonic() + _BUDGET
    for turn in range(_LISTED):
        place.fs.create(f"{folder}/{turn}", [])
        if time.monotonic() > deadline:
            break


def _sync(path: str, flags: int, data: bytes = b"") -> None:
    handle = os.open(path, flags | os.O_CLOEXEC)
    try:
        if data:
            os.write(handle, data)
        with contextlib.suppress(OSError):  # `basics.durability` reports it
            os.fsync(handle)
    finally:
        os.close(handle)


def events(place: Workspace) -> Finding:
    """Whether file events work: a touch must wake a listener on this host."""
    path, woken = place.path("bell"), Alarm()
    with listening(place.fs.touch, path, woken.set) as watch:
        before = time.perf_counter()
        place.fs.ring(path)
        seen = watch.works and woken.wait(_WAKE_PATIENCE)
        took = time.perf_counter() - before
    remote = is_remote(place.root)
    if seen:
        where = (
            "on this host; changes from other hosts are found by polling"
            if remote
            else "on this host"
        )
        return Finding(
            "events",
            Verdict.OK,
            f"a touch wakes a listener after {in_words(took)}",
            f"file events report changes {where}",
            "",
            {"events": True, "wake": round(took, 6)},
        )
    return Finding(
        "events",
        Verdict.OK if remote else Verdict.WEAK,
        "no file events",
        "waiting processes poll: they notice a change after up to poll_interval",
        "" if remote else 'set watch = "poll"; raise fs.inotify.max_user_instances if it is low',
        {"events": False},
    )
