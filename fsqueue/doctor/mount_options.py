"""The mount that holds the directory, and what its options mean for a queue.

Sources: nfs(5), mount.cifs(8), mount.lustre(8), the kernel's overlayfs.rst.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from fsqueue.doctor.findings import Finding, Verdict
from fsqueue.spool.disk.mounts import is_remote, mount_of

if TYPE_CHECKING:
    from fsqueue.spool.disk.mounts import Mount

# Filesystems that present an object store as a folder. A rename there is a copy and a removal.
OBJECT_STORES = frozenset(
    {
        "fuse.s3fs",
        "fuse.goofys",
        "fuse.blobfuse",
        "fuse.blobfuse2",
        "fuse.rclone",
        "fuse.gcsfuse",
        "fuse.mount-s3",
        "fuse.mountpoint-s3",
        "fuse.ossfs",
        "fuse.cosfs",
    }
)
_SHOWN = re.compile(
    r"ro|rw|hard|soft|softerr|nolock|noac|sync|nocto|(local_)?flock|localflock|nobrl|"
    r"(vers|actimeo|acregmin|acregmax|acdirmin|acdirmax|lookupcache|local_lock|timeo|retrans|"
    r"proto|cache|sec|data)=.*"
)


def probe_mount(root: str) -> Finding:
    """Type of the filesystem and options of the mount."""
    mount = mount_of(root)
    remote = is_remote(root)
    worst, meaning, advice = Verdict.OK, [], []
    for verdict, what, todo in judge(mount):
        worst = max(worst, verdict, key=list(Verdict).index)
        meaning.append(what)
        advice += [todo] if todo else []
    if not meaning:
        meaning = ["shared by several hosts" if remote else "visible only on this host"]
    shown = [option for option in mount.options if _SHOWN.fullmatch(option)]
    kind, source = mount.kind or "unknown", mount.source or "somewhere"
    at = f" at {mount.point}" if mount.point else ""
    return Finding(
        "filesystem",
        worst,
        f"{kind} from {source}{at}: {', '.join(shown) or 'no options'}",
        "; ".join(meaning),
        "; ".join(advice),
        {
            "type": kind,
            "source": mount.source,
            "options": ",".join(mount.options),
            "remote": remote,
        },
    )


def judge(mount: Mount) -> list[tuple[Verdict, str, str]]:
    """The judgements on a mount's type and options: verdict, meaning and advice of each."""
    options = dict(part.partition("=")[::2] for part in mount.options)
    rules = {"nfs": _judge_nfs, "nfs4": _judge_nfs, "cifs": _judge_cifs, "lustre": _judge_lustre}
    found = []
    if "ro" in options:
        found.append((Verdict.BAD, "mounted read-only", "mount it rw"))
    if mount.kind in OBJECT_STORES:
        found.append(
            (
                Verdict.BAD,
                "an object store presented as a folder: a rename there is not atomic",
                "use a real filesystem",
            )
        )
    if mount.kind in {"tmpfs", "ramfs"}:
        found.append((Verdict.OK, "in memory: fast, only on this host, lost at a reboot", ""))
    if mount.kind == "overlay":
        found.append(
            (
                Verdict.OK,
                "a container's own layer: visible only in the container, and deleted with it",
                "",
            )
        )
    return found + (rules[mount.kind](options) if mount.kind in rules else [])


def _judge_nfs(options: dict[str, str]) -> list[tuple[Verdict, str, str]]:
    found = []
    if options.keys() & {"soft", "softerr"}:
        found.append(
            (
                Verdict.WEAK,
                "soft: operations fail with unknown effect when they should wait for the server",
                "mount it hard",
            )
        )
    local = options.get("local_lock", "none")
    if "nolock" in options or local in {"all", "flock"}:
        found.append(
            (
                Verdict.WEAK,
                "file locks stay on this host: only the lease shows deaths on other hosts",
                "mount it without nolock and local_lock, or set a shorter lease",
            )
        )
    if "noac" in options or options.get("actimeo") == "0":
        found.append((Verdict.OK, "nothing is cached: always current, but slower", ""))
    return found


def _judge_cifs(options: dict[str, str]) -> list[tuple[Verdict, str, str]]:
    found = []
    if "nobrl" in options:
        found.append(
            (Verdict.WEAK, "nobrl: file locks stay on this host", "mount it without nobrl")
        )
    if options.get("cache") == "loose":
        found.append(
            (
                Verdict.BAD,
                "cache=loose: this host may never see what other hosts wrote",
                "mount it with cache=strict",
            )
        )
    return found


def _judge_lustre(options: dict[str, str]) -> list[tuple[Verdict, str, str]]:
    if "flock" in options:
        return []
    return [
        (
            Verdict.WEAK,
            "file locks fail or stay on this host: only the lease shows deaths on other hosts",
            "mount it with flock, or set a shorter lease",
        )
    ]
