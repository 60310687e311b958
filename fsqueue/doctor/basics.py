"""Probes that one process can run alone: permissions, room, names, folders, links, fsync."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from fsqueue.doctor.findings import Finding, Verdict
from fsqueue.errors import SpoolError
from fsqueue.spool.disk.access import check_root
from fsqueue.spool.disk.clock import ServerClock
from fsqueue.spool.disk.filesystem import Filesystem
from fsqueue.spool.disk.link_records import longest_link
from fsqueue.spool.disk.syscalls import links_unsupported
from fsqueue.spool.format.layout import Layout
from fsqueue.spool.format.names import AttemptName, Slot, new_token
from fsqueue.spool.worker.space import ADVICE, outlook

if TYPE_CHECKING:
    from fsqueue.doctor.workspace import Workspace

_LITTLE, _VERY_LITTLE = 256 << 20, 16 << 20
_FEW, _VERY_FEW = 20_000, 1_000
# A queue's folder is <application>.<queue>, with at most 64 characters each.
_LONGEST = 129


def writable(root: str, error: OSError) -> Finding:
    """The finding for a directory in which no folder can be made, so that no probe can run."""
    return Finding(
        "writable",
        Verdict.BAD,
        f"cannot make a folder in {root}: {error.strerror or error}",
        "callers and workers make files all the time",
        "get permission to write there, or free some space",
        {"errno": error.errno},
    )


def permissions(root: str, group: int | None) -> Finding:
    """Permissions of the root. Any user who can write there can run code as its users."""
    mode = stat.filemode(os.stat(root).st_mode)
    try:
        check_root(Filesystem(group=group), root)
    except SpoolError as error:
        return Finding(
            "permissions",
            Verdict.BAD,
            mode,
            "workers and callers refuse this directory",
            str(error),
        )
    owner = "its owner" if group is None else f"group {group}"
    return Finding("permissions", Verdict.OK, mode, f"only {owner} can write here")


def modes(place: Workspace) -> Finding:
    """Whether file modes work, so that files can be private."""
    fs = Filesystem(group=place.fs.group)
    path = place.path("mode")
    wanted = 0o600 if fs.group is None else 0o660
    meaning = "other users may read arguments and results, or write calls that run as you"
    try:
        fs.create(path, [b""])
        found = stat.S_IMODE(fs.status(path).st_mode)
        fs.unlink(path)
    except OSError as error:
        return Finding(
            "modes",
            Verdict.BAD,
            f"cannot set a mode: {error.strerror}",
            f"calls fail: without modes, {meaning}",
            "use a filesystem with owners and modes",
        )
    if found != wanted:
        return Finding(
            "modes",
            Verdict.BAD,
            f"{wanted:04o} became {found:04o}",
            f"without modes, {meaning}",
            "use a filesystem with owners and modes",
        )
    return Finding("modes", Verdict.OK, f"{wanted:04o}", "files are private")


def space(place: Workspace) -> Finding:
    """Free space and inodes."""
    found = os.statvfs(place.root)
    free, total = found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
    inodes = found.f_favail if found.f_files else None  # btrfs and others have no fixed number
    verdict = Verdict.OK
    if free < _LITTLE or (inodes is not None and inodes < _FEW):
        verdict = Verdict.WEAK
    if free < _VERY_LITTLE or (inodes is not None and inodes < _VERY_FEW):
        verdict = Verdict.BAD
    shown = "no fixed number of" if inodes is None else f"{inodes:,} free"
    return Finding(
        "space",
        verdict,
        f"{free / 2**20:,.0f} of {total / 2**20:,.0f} MiB free, {shown} inodes",
        "each call and each outcome is a file; on a full disk, publishing it fails with an error",
        "" if verdict is Verdict.OK else "free some space, or use another filesystem",
        {"free_bytes": free, "free_inodes": inodes},
    )


def results(place: Workspace, result_ttl: float) -> Finding | None:
    """Whether the results of a spool will fill the disk before they expire; None without a spool.

    Args:
        result_ttl: seconds for which results are kept.
    """
    layout, clock = Layout(place.root), ServerClock(place.fs)
    if not place.fs.exists(layout.info):
        return None
    clock.sync(place.path("time"))
    full = outlook(place.fs, layout, clock.now(), result_ttl)
    if full is None:
        return Finding("results", Verdict.OK, "kept results expire before they fill the disk", "")
    return Finding(
        "results", Verdict.WEAK, full, "on a full disk, calls and results are refused", ADVICE
    )


def names(place: Workspace) -> Finding:
    """Names as a spool uses them, and whether upper and lower case differ."""
    fs, folder = place.fs, place.make("names")
    attempt = AttemptName(f"{'k' * 32}-{10**14}", 99, 1, cancelled=True)
    used = [str(attempt), str(Slot(5, 1_700_000_000.123)), "q" * _LONGEST, f"{attempt}.reason"]
    try:
        for name in used:
            fs.create(f"{folder}/{name}", [b""])
    except OSError as error:
        return Finding(
            "names",
            Verdict.BAD,
            f"{name!r} cannot be made: {error.strerror}",
            "calls with such names fail",
            "use another filesystem",
        )
    if lost := set(used) - set(fs.names(folder, fresh=True)):
        return Finding(
            "names",
            Verdict.BAD,
            f"{sorted(lost)} became other names",
            "files are found by their names",
            "use another filesystem",
        )
    folded = fs.exists(f"{folder}/{'Q' * _LONGEST}", fresh=True)
    return Finding(
        "names",
        Verdict.WEAK if folded else Verdict.OK,
        f"up to {_LONGEST} letters, {'ignoring case' if folded else 'case counts'}",
        "applications or queues whose names differ only in case share their calls"
        if folded
        else "all names that a queue uses are possible",
        "name applications and queues in lower case" if folded else "",
        {"case_sensitive": not folded},
    )


def links(place: Workspace) -> Finding:
    """Hard links, which make the first outcome of a call the only one."""
    fs, folder = place.fs, place.make("links")
    one, two, taken = f"{folder}/one", f"{folder}/two", f"{folder}/taken"
    for path in (one, taken):
        fs.create(path, [b"x"])
    weaker = "two workers that finish one call at the same time can both publish an outcome"
    try:
        fs.link(one, two)
    except OSError as error:
        if not links_unsupported(error):
            raise
        return Finding(
            "links",
            Verdict.WEAK,
            f"none: {error.strerror}",
            f"{weaker}, and then the later one counts",
            "prefer a filesystem with hard links if it matters which outcome of a call counts",
            {"links": False},
        )
    try:
        fs.link(one, taken)
    except FileExistsError:
        count = fs.link_count(one)
        return Finding(
            "links",
            Verdict.OK,
            f"refused for an existing name; {count} names counted",
            "the first outcome of a call is the only one",
            "",
            {"links": True},
        )
    return Finding(
        "links",
        Verdict.BAD,
        "a link replaces an existing name",
        "a later outcome replaces the one that the caller has seen",
        "use another filesystem",
    )


def symbolic_links(place: Workspace) -> Finding:
    """Symbolic links, which hold the small records of a spool on a network filesystem."""
    longest = longest_link(place.make("symbolic"), "link")
    if not longest:
        return Finding(
            "symlinks",
            Verdict.WEAK if place.fs.remote else Verdict.OK,
            "none, or too short",
            "records are files, which cost a file server more requests than links",
            "",
            {"longest_link": 0},
        )
    return Finding(
        "symlinks",
        Verdict.OK,
        f"up to {longest} bytes",
        "small records can be links, which take one request to write and one to read",
        "",
        {"longest_link": longest},
    )


def folders(place: Workspace) -> Finding:
    """Removal of folders in use, and moves into missing folders: both must fail."""
    fs, folder = place.fs, place.make("folders")
    fs.mkdir(f"{folder}/used")
    fs.create(f"{folder}/used/file", [b""])
    wrong = []
    if fs.rmdir(f"{folder}/used"):
        wrong.append("a folder with a file in it can be removed")
    else:
        for what, source, target in (
            ("a file moves into a missing folder", "used/file", "missing/file"),
            ("a file that does not exist moves", "used/nothing", "used/other"),
        ):
            try:
                fs.rename(f"{folder}/{source}", f"{folder}/{target}")
                wrong.append(what)
            except FileNotFoundError:
                continue
    return Finding(
        "folders",
        Verdict.BAD if wrong else Verdict.OK,
        "; ".join(wrong) or "no removal of a folder in use, no move into a missing folder",
        "recovery removes the folders of dead workers, but never a folder with a call in it",
        "use another filesystem" if wrong else "",
    )


def durability(place: Workspace) -> Finding:
    """Whether fsync works for files and folders."""
    path = place.path(f"durable-{new_token()}")
    refused = []
    for what, target, flags in (
        ("files", path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC),
        ("folders", place.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC),
    ):
        handle = os.open(target, flags, 0o600)
        try:
            os.fsync(handle)
        except OSError as error:
            if error.errno not in {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP}:
                raise
            refused.append(what)
        finally:
            os.close(handle)
    place.fs.discard(path)
    return Finding(
        "durability",
        Verdict.WEAK if refused else Verdict.OK,
        f"no fsync of {' and '.join(refused)}" if refused else "fsync of files and of folders",
        'durability = "power" then depends on the file server\'s own care'
        if refused
        else 'durability = "power" is possible',
        "do not rely on calls surviving a power cut" if refused else "",
        {"fsync": not refused},
    )
