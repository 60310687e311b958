"""Junk for every folder of a spool: all that can stand where a file or a folder belongs."""

import os
import socket
import time
from datetime import UTC, datetime

KEY = "0123456789abcdef0123456789abcde"
# A file of each kind that there is, with room for one letter (a word) and two digits (a number)
# that make its name one of many like it. Each folder above one is a place for junk, too.
SAMPLES = (
    "spool-{c}.json",
    "tmp/abcdefghi{c}.7",
    "tmp/abcdefg{c}-9",
    "pending/acceptanc{c}.default/4.17000000000{d}/abcdefg{c}-1.1",
    "pending/acceptance.default/4.17000000000{d}/abcdefg{c}-1.1",
    "pending/acceptance.default.gpu-{d}/4.17000000000{d}/abcdefg{c}-1.1",
    "after/abcdefg{c}-2/abcdefg{c}-3.1",
    "running/dead-1-aaaaa{c}/abcdefg{c}-4.1",
    "done/abcdefg{c}/abcdefg{c}-5",
    "kept/abcdefg{c}/abcdefg{c}-6",
    "failed/abcdefg{c}-7.1",
    "quarantine/abcdefg{c}-8.1",
    "quarantine/abcdefg{c}-8.1.reason",
    "workers/dead-1-aaaaa{c}.json",
    "workers/dead-1-aaaaa{c}.beat",
    "workers/dead-1-aaaaa{c}.lock",
    "clients/abcdefg{c}.lock",
    f"blobs/{KEY[:-1]}{{d}}",
    f"once/{KEY[:-1]}{{d}}/{{d}}",
    f"cache/{KEY[:-1]}{{d}}",
    "cancel/abcdefg{c}-1",
    "journal/{old}T{d}/dead-1-aaaaa{c}.sums",
    "journal/{hour}/dead-1-aaaaa{c}.sums",
    "journal/{hour}/dead-1-aaaaa{c}.jsonl",
    "progress/abcdefg{c}-4.1",
    "output/abcdefg{c}-4.1",
    "cuts/abcdefg{c}-4",
    "lanes/0123456789abcdef-{d}/{d}/abcdefg{c}-1@dead-1-aaaaaa.1-1.abcdefgh",
    "lanes/0123456789abcdef-{d}/abcdefg{c}-1@dead-1-aaaaaa.1-1.abcdefgh",
    "lanes/0123456789abcdef-{d}/4.17000000000{d}~acceptance.default/abcdefg{c}-1.1",
    "lanes/0123456789abcdef-{d}/4.17000000000{d}~acceptance.default~lenderabc-{d}/abcdefg{c}-1.1",
    "events/acceptanc{c}/happene{c}.abcdefg{c}-1",
    "events/acceptance/happene{c}.abcdefg{c}-1",
    "events/acceptance/@ended.abcdefg{c}-1",
    f"fired/{KEY[:-1]}{{d}}",
    f"triggers/{KEY[:-1]}{{d}}/00017000000{{d}}",
    f"triggers/{KEY[:-1]}{{d}}/{{d}}.1",
    "locks/upkeep-{c}",
    "locks/drain.dead-1-aaaaa{c}",
    "fleet/flee{c}/fleet.json",
    "fleet/fleet/fleet.json",
    "fleet/fleet/slots/{d}/abcdefg{c}.1",
    "fleet/fleet/submissions/abcdefg{c}",
    "fleet/fleet/jobs/abcdefg{c}",
    "fleet/fleet/marks/abcdefg{c}.1.absent",
    "fleet/fleet/births/abcdefg{c}.1",
    "fleet/fleet/ends/abcdefg{c}.1.dead-1-aaaaaa",
    "fleet/fleet/past/abcdefg{c}.1",
    "fleet/fleet/trail/hos{c}.jsonl",
    "fleet/fleet/logs/abcdefg{c}",
    "bell/abcdefg{c}",
    "bell/acceptance.{c}",
)
REAL = 0


def _file(path):
    with open(path, "wb") as file:
        file.write(b"not ours")


def _empty(path):
    with open(path, "wb"):
        pass


def _sparse(path):
    _empty(path)
    os.truncate(path, 1 << 30)


def _full_folder(path):
    os.mkdir(path)
    _file(f"{path}/something")
    os.mkdir(f"{path}/abcdefgh-1.1")


def _unreadable(path):
    _file(path)
    os.chmod(path, 0)


def _closed_folder(path):
    """A folder that cannot be listed, entered or written to."""
    _full_folder(path)
    os.chmod(path, 0)


def _unlistable_folder(path):
    _full_folder(path)
    os.chmod(path, 0o300)


def _socket(path):
    folder = os.open(os.path.dirname(path), os.O_RDONLY)
    try:
        with socket.socket(socket.AF_UNIX) as listener:  # its path must be short
            listener.bind(f"/proc/self/fd/{folder}/{os.path.basename(path)}")
    finally:
        os.close(folder)


KINDS = (
    _file,
    _empty,
    _sparse,
    os.mkdir,
    _full_folder,
    _unreadable,
    _closed_folder,
    _unlistable_folder,
    lambda path: os.symlink("/etc/passwd", path),
    lambda path: os.symlink("/usr", path),
    lambda path: os.symlink("/nowhere/at/all", path),
    lambda path: os.symlink(os.path.basename(path), path),
    lambda path: os.symlink("/dev/zero", path),
    os.mkfifo,
    _socket,
)


def _fill(sample, number):
    today = datetime.fromtimestamp(time.time(), UTC)
    return sample.format(
        c="abcdefghijklmnopqrstuvwxyz"[number],
        d=f"{number:02d}" if number else "24",
        old="2020-01-01",
        hour=today.strftime("%Y-%m-%dT%H"),
    )


def plant(root):
    """Put junk of every kind into every folder, under names of every kind; returns the paths."""
    planted = []
    for sample in SAMPLES:
        os.makedirs(os.path.dirname(f"{root}/{_fill(sample, REAL)}"), exist_ok=True)
    for sample in SAMPLES:
        parts = sample.split("/")
        for depth in range(1, len(parts) + 1):
            above = "/".join(_fill(part, REAL) for part in parts[: depth - 1])
            for number, make in enumerate(KINDS, start=1):
                planted += _put(make, f"{root}/{above}/{_fill(parts[depth - 1], number)}")
    folders = [where for where, _, _ in os.walk(root) if where not in set(planted)]
    for folder in folders:
        if any(folder.startswith(f"{path}/") for path in planted):
            continue
        for number, make in enumerate(KINDS):
            planted += _put(make, f"{folder}/junk {number}")
        for make in (_file, os.mkdir):
            name = os.fsdecode(b"\xff\xfe latin \n %d") + make.__name__
            planted += _put(make, f"{folder}/{name}")
    return planted


def _put(make, path):
    if os.path.lexists(path):
        return []
    make(path)
    return [path]


def open_up(paths):
    """Let everything be removed again."""
    for path in paths:
        if os.path.lexists(path) and not os.path.islink(path):
            os.chmod(path, 0o700)
