"""Determines the type of filesystem that a folder is on."""

from __future__ import annotations

import os

# Names of filesystem types that other machines may change, too. Sources: the Linux kernel's fs/
# tree and the mount helpers of Lustre, BeeGFS, GPFS, PanFS, WekaFS and VAST.
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


def filesystem_type(path: str) -> str:
    """The type of the filesystem that holds `path`, from the mount table ('' if unknown)."""
    import psutil

    real = os.path.realpath(path)
    best, found = -1, ""
    for mount in psutil.disk_partitions(all=True):
        point = mount.mountpoint.rstrip("/")
        inside = real == point or real.startswith(point + "/")
        if inside and len(point) >= best:  # if two mounts share a point, the later one is on top
            best, found = len(point), mount.fstype.lower()
    return found


def is_remote(path: str) -> bool:
    """Whether other machines may change the folder `path` without this kernel noticing."""
    kind = filesystem_type(path)
    return kind in REMOTE_TYPES or kind == "fuse" or kind.startswith("fuse.")
