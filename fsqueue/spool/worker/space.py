"""Warns before results fill the disk: how much space they take, and when it will be full.

Results stay for ``result_ttl``, so a spool grows for that long before anything expires. Sizes are
estimated from a sample, because there may be very many results.
"""

from __future__ import annotations

import contextlib
import random
import stat
from typing import TYPE_CHECKING, NamedTuple

from fsqueue.spool.format.names import is_client_name

if TYPE_CHECKING:
    from fsqueue.spool.disk.filesystem import Filesystem
    from fsqueue.spool.format.layout import Layout

# The number of files in the sample.
_SAMPLE = 200
# Seconds; over a shorter period, the rate of results cannot be estimated.
_SHORTEST = 60.0
# Results that take a smaller share of the disk than this need no warning.
_LEAST_SHARE = 0.01
_UNITS = ((1 << 40, "TB"), (1 << 30, "GB"), (1 << 20, "MB"), (1 << 10, "kB"))
_SPANS = ((86_400.0, "days"), (3_600.0, "hours"), (60.0, "minutes"))


class Results(NamedTuple):
    """The space that results and failed calls take."""

    files: int
    size: float
    """Bytes, estimated from a sample."""
    oldest: float
    """Seconds since the oldest one of the sample was written."""


def measure(fs: Filesystem, layout: Layout, now: float) -> Results:
    """Measure the space of all results: lists their folders, and stats at most 200 files.

    Args:
        fs: verbs over system calls.
        layout: paths of the spool.
        now: seconds since the epoch on the file server.
    """
    folders = [layout.failed_folder]
    for parent in (layout.done_folder, layout.kept_folder):
        folders += [f"{parent}/{name}" for name in filter(is_client_name, fs.names(parent))]
    paths: list[str] = []
    for folder in folders:
        with contextlib.suppress(OSError):  # closed to this user
            paths += [f"{folder}/{name}" for name in fs.names(folder)]
    sizes, oldest = [], 0.0
    for path in random.sample(paths, min(_SAMPLE, len(paths))):
        try:
            found = fs.status(path, follow=False)
        except OSError:
            continue  # collected, or closed to this user
        if stat.S_ISREG(found.st_mode):
            # Sparse files take less space than their size.
            sizes.append(512 * found.st_blocks)
            oldest = max(oldest, now - found.st_mtime)
    return Results(len(paths), len(paths) * sum(sizes) / max(1, len(sizes)), oldest)


ADVICE = "Set a shorter result_ttl, or remove old results now: `fsqueue gc --older-than 1d`."


def warning(fs: Filesystem, layout: Layout, now: float, result_ttl: float) -> str | None:
    """The outlook and the advice; None if results fit on the disk."""
    found = outlook(fs, layout, now, result_ttl)
    return None if found is None else f"{found} {ADVICE}"


def glance(fs: Filesystem, layout: Layout, now: float, result_ttl: float) -> str:
    """The warning if there is reason for one, at the cost of one call if half of the disk is free.

    Results that are kept could fill such a disk only if they filled half of it.
    """
    total, free = fs.space(layout.root)
    return "" if free > total / 2 else (warning(fs, layout, now, result_ttl) or "")


def outlook(fs: Filesystem, layout: Layout, now: float, result_ttl: float) -> str | None:
    """When results will fill the disk before they expire; None if they fit.

    Results do not fit if they take as much space as is free, or if, at the rate so far, they will
    take more than is free before the oldest of them expires.

    Args:
        fs: verbs over system calls.
        layout: paths of the spool.
        now: seconds since the epoch on the file server.
        result_ttl: seconds for which results are kept.
    """
    total, free = fs.space(layout.root)
    results = measure(fs, layout, now)
    if results.size < _LEAST_SHARE * total:
        return None
    rate = results.size / max(_SHORTEST, results.oldest)
    to_come = rate * max(0.0, result_ttl - results.oldest)
    if results.size < free and to_come < free:
        return None
    return (
        f"results and failed calls take about {_bytes(results.size)} of {layout.root} "
        f"({results.files} files), and {_bytes(free)} of {_bytes(total)} are free. At this rate "
        f"the disk is full in {_span(free / rate)}, and results expire after {_span(result_ttl)}."
    )


def _bytes(size: float) -> str:
    for factor, unit in _UNITS:
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size:.0f} bytes"


def _span(seconds: float) -> str:
    for factor, unit in _SPANS:
        if seconds >= 2 * factor:
            return f"{seconds / factor:.0f} {unit}"
    return f"{seconds:.0f} seconds"
