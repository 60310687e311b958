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
# The limits of the monitor's looks, which may cost only a few file operations.
_FEW_FOLDERS, _FEW_FILES = 2, 6
# The shortest period, in seconds, over which the rate of results is estimated.
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


def measure(
    fs: Filesystem,
    layout: Layout,
    now: float,
    *,
    most_folders: int | None = None,
    sample: int = _SAMPLE,
) -> Results:
    """Measure the space of all results: lists their folders, and stats at most 200 files.

    Args:
        now: seconds since the epoch on the file server.
        most_folders: how many folders of clients to list at each place; None is all.
        sample: how many files to stat.
    """
    folders = [layout.failed_folder]
    for parent in (layout.done_folder, layout.kept_folder):
        folders += [
            f"{parent}/{name}"
            for name in list(filter(is_client_name, fs.names(parent)))[:most_folders]
        ]
    paths: list[str] = []
    for folder in folders:
        with contextlib.suppress(OSError):  # closed to this user
            paths += [f"{folder}/{name}" for name in fs.names(folder)]
    sizes, oldest = [], 0.0
    for path in random.sample(paths, min(sample, len(paths))):
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


def glance(fs: Filesystem, layout: Layout, now: float, result_ttl: float, count: int) -> str:
    """The warning, estimated from a few files of a few folders; empty if results fit on the disk.

    Args:
        now: seconds since the epoch on the file server.
        result_ttl: seconds for which results are kept.
        count: how many results there are.
    """
    if not count:
        return ""
    seen = measure(fs, layout, now, most_folders=_FEW_FOLDERS, sample=_FEW_FILES)
    size = seen.size / max(1, seen.files) * count
    found = _outlook(fs, layout, seen._replace(files=count, size=size), result_ttl)
    return "" if found is None else f"{found} {ADVICE}"


def outlook(fs: Filesystem, layout: Layout, now: float, result_ttl: float) -> str | None:
    """When results will fill the disk before they expire; None if they fit.

    Results do not fit if they take as much space as is free, or if they will take more than is free
    before the oldest of them expires, at the rate so far.

    Args:
        now: seconds since the epoch on the file server.
        result_ttl: seconds for which results are kept.
    """
    return _outlook(fs, layout, measure(fs, layout, now), result_ttl)


def _outlook(fs: Filesystem, layout: Layout, results: Results, result_ttl: float) -> str | None:
    total, free = fs.space(layout.root)
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
