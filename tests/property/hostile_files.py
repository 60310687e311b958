"""What can stand in the place of a file, and the files of a spool in whose place it can stand."""

from __future__ import annotations

import contextlib
import os
import pickle
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import msgspec
from integration.conftest import working
from support import as_file, files_under, read_record, rewrite, wait_until

from fsqueue import FSQueue
from fsqueue.spool.disk.identity import boot_id, host_name
from fsqueue.spool.format.records import WorkerRecord

DEAD = "dead-1-aaaaaa"
SECRET = "the content of a file that is none of fsqueue's business"
HUGE = 1 << 40


def damaged(whole: bytes) -> Iterator[bytes]:
    """Every truncation of a file's content, and the content with each of its bits turned."""
    for length in range(len(whole)):
        yield whole[:length]
    for bit in range(8 * len(whole)):
        data = bytearray(whole)
        data[bit // 8] ^= 1 << bit % 8
        yield bytes(data)


read = read_record


# -- nothing is executed ------------------------------------------------------------------------


class Trap:
    """Leaves a mark where it is unpickled."""

    def __init__(self, mark: str) -> None:
        self.mark = mark

    def __reduce__(self):
        return spring, (self.mark,)


class LargeTrap(Trap):
    """The same with memory that lies apart in its file."""

    def __reduce_ex__(self, _):
        return spring, (self.mark, pickle.PickleBuffer(bytearray(1 << 19)))


def spring(mark: str, _: object = None) -> None:
    Path(mark).touch()


def set_trap(mark: str) -> Trap:
    return Trap(mark)


def set_large_trap(mark: str) -> Trap:
    return LargeTrap(mark)


def length(text) -> int:
    return len(text)


def echo(value):
    return value


# -- nothing is followed ------------------------------------------------------------------------


class Outside:
    """A folder out of the spool, whose files must stay as they are."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.folder.mkdir()
        self.secret = self.folder / "secret"
        self.secret.write_text(SECRET, encoding="utf-8")
        for name in ("abcdefgh-1", "abcdefgh-1.1", "notes.txt"):
            (self.folder / name).write_text(SECRET, encoding="utf-8")
        for path in self._all():
            os.utime(path, (1, 1))

    def _all(self) -> list[Path]:
        return [*sorted(self.folder.iterdir()), self.folder]

    def is_untouched(self) -> bool:
        names = [path.name for path in self._all()]
        wanted = ["abcdefgh-1", "abcdefgh-1.1", "notes.txt", "secret", self.folder.name]
        return names == wanted and all(
            os.stat(path).st_mtime == 1 and (path.is_dir() or path.read_text() == SECRET)
            for path in self._all()
        )


# -- ways to spoil a file -----------------------------------------------------------------------

Spoil = Callable[[str, Outside], None]


def empty(path: str, _: Outside) -> None:
    rewrite(path, b"")


def truncated(path: str, _: Outside) -> None:
    rewrite(path, read(path)[:-7])


def one_bit(path: str, _: Outside) -> None:
    data = bytearray(read(path))
    data[-3] ^= 4
    rewrite(path, bytes(data))


def garbage(path: str, _: Outside) -> None:
    rewrite(path, bytes(range(256)) * 12)


def longer(path: str, _: Outside) -> None:
    rewrite(path, read(path) + b"\0")


def huge(path: str, _: Outside) -> None:
    as_file(path)
    os.truncate(path, HUGE)


def huge_from_the_start(path: str, _: Outside) -> None:
    as_file(path)
    os.truncate(path, 0)
    os.truncate(path, HUGE)


def huge_by_its_own_account(path: str, outside: Outside) -> None:
    """More than any process can have: a forger can write any size."""
    size = 900_000_000_000_000
    head, _, rest = read(path).partition(b"\n")
    fields = head.split(b" ")
    first = b" ".join([*fields[:4], b"%d" % size]) + b"\n"
    as_file(path)
    rewrite(path, first + rest)
    try:
        os.truncate(path, len(first) + size)
    except OSError:  # a filesystem with smaller files
        huge(path, outside)


def huge_buffer_by_its_own_account(path: str, _: Outside) -> None:
    head, _, rest = read(path).partition(b"\n")
    fields = head.split(b" ")
    first = b" ".join([*fields[:4], b"%d" % len(rest), b"%dw" % HUGE]) + b"\n"
    as_file(path)
    rewrite(path, first + rest)
    os.truncate(path, len(first) + len(rest) + HUGE)


def in_place_of(make: Callable[[str, Outside], None], name: str) -> Spoil:
    def spoil(path: str, outside: Outside) -> None:
        os.unlink(path)
        make(path, outside)

    spoil.__name__ = name
    return spoil


def _socket(path: str, _: Outside) -> None:
    # By its short name: a socket's path has about 100 bytes.
    here = os.open(".", os.O_RDONLY)
    try:
        os.chdir(os.path.dirname(path))
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(os.path.basename(path))
    finally:
        os.fchdir(here)
        os.close(here)


def _full_folder(path: str, _: Outside) -> None:
    os.makedirs(f"{path}/deeper")


NO_FILES = [
    in_place_of(lambda path, _: os.mkdir(path), "folder"),
    in_place_of(_full_folder, "folder_with_content"),
    in_place_of(lambda path, _: os.mkfifo(path), "pipe"),
    in_place_of(_socket, "socket"),
    in_place_of(lambda path, outside: os.symlink(outside.secret, path), "link_to_a_secret"),
    in_place_of(lambda path, outside: os.symlink(outside.folder, path), "link_to_a_folder"),
    in_place_of(lambda path, _: os.symlink("/dev/zero", path), "link_to_a_device"),
    in_place_of(lambda path, _: os.symlink("/nowhere/at/all", path), "link_to_nothing"),
    in_place_of(lambda path, _: os.symlink(os.path.basename(path), path), "link_to_itself"),
]
DAMAGED = [
    empty,
    truncated,
    one_bit,
    garbage,
    longer,
    huge,
    huge_from_the_start,
    huge_by_its_own_account,
    huge_buffer_by_its_own_account,
]
SPOILS = [*DAMAGED, *NO_FILES]


def named(spoil: object) -> str:
    return getattr(spoil, "__name__", str(spoil))


# -- files of calls and outcomes ------------------------------------------------------------------


def pending_file(app: FSQueue, invocation_id: str) -> str:
    root = app.store.layout.root
    (found,) = [name for name in files_under(root) if name.endswith(f"/{invocation_id}.1")]
    return os.path.join(root, found)


@dataclass
class Case:
    """A whole file of a spool, and who will miss it."""

    path: str
    ask: Callable[[], object]
    """Returns what the caller gets, within a bounded time."""


@contextlib.contextmanager
def pending(app: FSQueue, mark: str, trap: type[Trap] = Trap) -> Iterator[Case]:
    invocation = app.task(echo)(trap(mark))
    yield Case(pending_file(app, invocation.id), lambda: invocation.get(60))


@contextlib.contextmanager
def running_at_a_dead_worker(app: FSQueue, mark: str) -> Iterator[Case]:
    invocation = app.task(echo)(Trap(mark))
    folder = app.store.layout.running(DEAD)
    os.mkdir(folder)
    write_record(app, DEAD)
    path = f"{folder}/{invocation.id}.1"
    os.rename(pending_file(app, invocation.id), path)
    yield Case(path, lambda: invocation.get(60))
    wait_until(lambda: not os.path.lexists(folder), what="the dead worker is removed")


def write_record(app: FSQueue, worker: str, **changes: object) -> None:
    record = WorkerRecord(
        name=worker,
        host=host_name(),
        boot=boot_id(),
        pid=os.getpid(),
        start="another process of this number",
        queues=("t.default",),
        runner="thread",
        concurrency=1,
        started=0.0,
    )
    data = msgspec.to_builtins(record) | changes
    rewrite(app.store.layout.worker_record(worker), msgspec.json.encode(data))


def finished(app: FSQueue, mark: str, body: Callable[[str], Trap] = set_trap):
    """An invocation whose outcome is there, and not collected."""
    with working(app):
        invocation = app.task(body)(mark)
        wait_until(invocation.done)
    return invocation


@contextlib.contextmanager
def done(app: FSQueue, mark: str, body: Callable[[str], Trap] = set_trap) -> Iterator[Case]:
    invocation = finished(app, mark, body)
    yield Case(app.store.layout.done(invocation.id), lambda: invocation.get(60))


@contextlib.contextmanager
def kept(app: FSQueue, mark: str) -> Iterator[Case]:
    invocation = finished(app, mark)
    app.store.outcomes.collect(invocation.id, keep=True)
    again = app.invocation(invocation.id)
    yield Case(app.store.layout.kept(invocation.id), lambda: again.get(60))


@contextlib.contextmanager
def blob(app: FSQueue, mark: str, trap: type[Trap] = Trap) -> Iterator[Case]:
    common = {"value": ["x" * 100_000, trap(mark)]}
    (member,) = app.task(echo).parallelize([()], common_args=common)
    (name,) = os.listdir(app.store.layout.blobs_folder)
    yield Case(app.store.layout.blob(name), lambda: member.get(60))


def large_pending(app: FSQueue, mark: str) -> AbstractContextManager[Case]:
    return pending(app, mark, LargeTrap)


def large_done(app: FSQueue, mark: str) -> AbstractContextManager[Case]:
    return done(app, mark, set_large_trap)


def large_blob(app: FSQueue, mark: str) -> AbstractContextManager[Case]:
    return blob(app, mark, LargeTrap)


LARGE_FILES = [large_pending, large_done, large_blob]
FILES = [pending, running_at_a_dead_worker, done, kept, blob, *LARGE_FILES]
