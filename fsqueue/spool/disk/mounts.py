"""Finds the mount that contains a folder, and whether its filesystem is remote.

Source: proc(5).
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_TABLE = "/proc/self/mountinfo"
_IS_LINUX = sys.platform == "linux"
_ESCAPE = re.compile(r"\\([0-7]{3})")

# Filesystem types that other machines may change, too. Sources: the Linux kernel's fs/ tree and the
# mount helpers of Lustre, BeeGFS, GPFS, PanFS, WekaFS and VAST.
REMOTE_TYPES = frozenset(
    [
        "nfs",
        "nfs4",
        "lustre",
        "beegfs",
        "beegfs_nodev",
        "gpfs",
        "panfs",
        "wekafs",
        "ceph",
        "cifs",
        "smb3",
        "smbfs",
        "afs",
        "9p",
        "virtiofs",
        "orangefs",
        "pvfs2",
        "glusterfs",
        "ocfs2",
        "gfs2",
        "coda",
        "ncpfs",
        "afpfs",
        "webdav",
    ]
)


class Mount(NamedTuple):
    """One line of the mount table."""

    device: str
    """``major:minor``."""
    point: str
    kind: str
    """Type of the filesystem; empty if unknown."""
    source: str = ""
    options: tuple[str, ...] = ()

    @property
    def asks_at_open(self) -> bool:
        """Whether it is NFS, and the client asks the server each time a folder is opened."""
        return self.kind in {"nfs", "nfs4"} and "nocto" not in self.options and _IS_LINUX

    @classmethod
    def parse(cls, line: str) -> Mount:
        """Parse a line of ``mountinfo``."""
        left, _, right = line.rstrip("\n").partition(" - ")
        _, _, device, _, point, own, *_ = left.split(" ")
        kind, source, more, *_ = [*right.split(" "), "", ""]  # the source may be empty
        options = dict.fromkeys(filter(None, [*own.split(","), *more.split(",")]))
        return cls(device, _plain(point), kind.lower(), _plain(source), tuple(options))


def _plain(text: str) -> str:
    return _ESCAPE.sub(lambda match: chr(int(match[1], 8)), text)


def find_mount(path: str, mounts: Iterable[Mount], device: str) -> Mount | None:
    """The mount that contains a real path on the device ``major:minor``."""
    best: Mount | None = None
    for mount in mounts:
        point = mount.point.rstrip("/")
        inside = path == point or path.startswith(point + "/")
        # btrfs has a separate device number for each subvolume, so only the mount point decides. If
        # two mounts share a mount point, the later one is on top.
        better = best is None or (mount.device == device, len(mount.point)) >= (
            best.device == device,
            len(best.point),
        )
        if inside and better:
            best = mount
    return best


def _mounts() -> Iterator[Mount]:
    try:
        with open(_TABLE, encoding="utf-8", errors="surrogateescape") as file:
            yield from map(Mount.parse, file)
    except OSError:  # macOS
        import psutil

        for each in psutil.disk_partitions(all=True):
            yield Mount("", each.mountpoint, each.fstype.lower(), each.device)


def mount_of(path: str) -> Mount:
    """The mount that contains `path`, as far as this system reports it."""
    real, device = os.path.realpath(path), ""
    with contextlib.suppress(OSError):  # it is missing, or its server does not answer
        number = os.stat(real).st_dev
        device = f"{os.major(number)}:{os.minor(number)}"
    return find_mount(real, _mounts(), device) or Mount("", "", "")


def filesystem_type(path: str) -> str:
    """The type of the filesystem that contains `path`, from the mount table; empty if unknown."""
    return mount_of(path).kind


def is_remote(path: str) -> bool:
    """Whether other machines may change the folder `path` without this kernel noticing."""
    kind = filesystem_type(path)
    return kind in REMOTE_TYPES or kind == "fuse" or kind.startswith("fuse.")


def asks_at_open(path: str) -> bool:
    """See `Mount.asks_at_open`."""
    return mount_of(path).asks_at_open


def has_delegations(path: str) -> bool:
    """Whether the folder `path` is on NFSv4, whose servers delegate files and may recall them."""
    return filesystem_type(path) == "nfs4"
