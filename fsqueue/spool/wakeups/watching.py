"""Waits for file events without a dedicated thread: one of the waiting threads listens.

A process has one inotify descriptor. One of the sleeping threads leads: it blocks in `poll` on the
descriptor, tells every watch what has happened, and hands the lead to another sleeper when it
leaves. Each of the others sleeps on its own lock. docs/design/disk-and-waiting.md describes the
protocol, and what happens if a signal handler raises an exception at any step of it.

No lock here can stay held after an exception. State changes by single operations of dicts and
lists, which no other thread sees half done.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import logging
import os
import select
import sys
import threading
import time
from typing import TYPE_CHECKING

from fsqueue.spool.wakeups import inotify
from fsqueue.spool.wakeups.sleeper import Sleeper

if TYPE_CHECKING:
    from collections.abc import Callable

    from fsqueue.spool.wakeups.observing import Observing

log: logging.Logger = logging.getLogger(__name__)

_LEADER = "leader"
_READ_SIZE = 1 << 16
# Seconds after which listening is tried again if it failed.
_TRY_AGAIN = 30.0
# Errors of one path, such as a junk file where a folder should be. Other paths can be watched.
_OF_THE_PATH = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ESTALE}
_OF_THE_PATH |= {errno.EACCES, errno.EPERM}
# Seconds for which the only sleeping thread pauses after an event that it did not wait for, before
# it listens again. In a fan-out, most outcomes are not the one that is awaited next.
_GATHER = 0.001
# If a leader is this many seconds late to leave, an exception ended its sleep.
_OVERDUE = 0.1


class Alarm:
    """Like `threading.Event`, for one thread that also listens to file events while it waits."""

    def __init__(self) -> None:
        self._sleeper = Sleeper()

    def set(self) -> None:
        """End the wait of the thread, or its next one. From any thread or signal handler."""
        watches().wake(self._sleeper)

    def clear(self) -> None:
        """Reset the alarm."""
        self._sleeper.rung = False

    def wait(self, timeout: float, *, listens: bool = True) -> bool:
        """Wait until it is set, or for `timeout` seconds; whether it is set.

        Args:
            timeout: the longest wait, in seconds.
            listens: handle file events meanwhile. Otherwise they are handled later.
        """
        sleeper = self._sleeper
        sleeper.thread = threading.get_ident()
        if not listens:
            sleeper.doze(timeout)
        elif not sleeper.rung:
            watches().sleep(sleeper, timeout)
        return sleeper.rung


class Watch:
    """A watched file or folder.

    Args:
        path: the file or folder.
        mask: the events; see `inotify`.
        on_event: called with each name that has appeared, with an empty one for a touch of a file,
            and with None if events were missed. It must not block.

    Attributes:
        works: whether events of the file or folder now at the path arrive.
    """

    def __init__(self, path: str, mask: int, on_event: Callable[[str | None], object]) -> None:
        self.path: str = path
        self.mask: int = mask
        self.on_event: Callable[[str | None], object] = on_event
        self.works = False


class Watches:
    """The watches and sleepers of this process.

    A signal handler or a trace function may raise an exception at any point of its methods. So
    there is no lock, which could stay held; the state changes by single operations of dicts.

    Args:
        native: use inotify if this system has it. Otherwise watchdog's threads notify the watches.
    """

    def __init__(self, *, native: bool = True) -> None:
        self.native = native
        self._observing: dict[None, Observing] = {}
        self._watches: dict[Watch, int] = {}  # with the kernel's number
        self._sleepers: dict[Sleeper, None] = {}
        self._office: dict[str, Sleeper] = {}
        self._try_again = 0.0
        self._warned = False
        self._opened: dict[None, tuple[int, int]] = {}
        self.handle: int | None = None
        self._wake_handle = -1
        # Used instead of `poll` for pipes, because it wakes only one of several processes.
        self._epoll: dict[None, select.epoll] = {}
        self._pipes: dict[int, Callable[[], object]] = {}

    def add(self, watch: Watch) -> bool:
        """Begin a watch, or renew it if another file is now at its path.

        Returns:
            True if events may have been missed, so that the path must be listed now. `works` tells
            whether events will arrive.
        """
        if not watch.works and time.monotonic() < self._try_again:
            return False
        try:
            if self.handle is None and not self._open():
                return self._observe(watch)
            number = inotify.add_watch(self.handle or 0, watch.path, watch.mask)
            if self._watches.get(watch) == number and watch.works:
                return False
            self._forget(watch, but=number)
            # Repeated until it is recorded: another thread may have ended the kernel's watch.
            while self._watches.get(watch) != number:
                self._watches[watch] = number
                watch.works = True
                number = inotify.add_watch(self.handle or 0, watch.path, watch.mask)
        except (OSError, ImportError, RuntimeError) as error:
            if getattr(error, "errno", None) not in _OF_THE_PATH:
                self._pause(error)
            self._forget(watch)
            return False
        return True

    def _pause(self, error: Exception) -> None:
        """Stop watching for a while.

        The reason is that there are too many descriptors, watches or threads, or that watchdog
        cannot be loaded.
        """
        self._try_again = time.monotonic() + _TRY_AGAIN
        # Warn only the first time, because a process that cannot listen keeps trying.
        severity = logging.DEBUG if self._warned else logging.WARNING
        self._warned = True
        text = "no wake-ups by file events (%s); polling instead%s"
        log.log(severity, text, error, inotify.advice(error))

    def _observe(self, watch: Watch) -> bool:
        """Begin a watch through watchdog, unless it already works."""
        if watch.works:
            return False
        from fsqueue.spool.wakeups.observing import Observing

        observing = self._observing.get(None) or self._observing.setdefault(None, Observing())
        observing.add(watch)
        watch.works = True
        return True

    def remove(self, watch: Watch) -> None:
        """End a watch."""
        self._forget(watch)

    def _forget(self, watch: Watch, but: int = -1) -> None:
        """Forget a watch; end the kernel's, except number `but`, if no other watch uses it."""
        watch.works = False
        if (observing := self._observing.get(None)) is not None:
            observing.remove(watch)
        number = self._watches.pop(watch, but)
        if number != but and number not in self._watches.copy().values():
            inotify.remove_watch(self.handle or 0, number)

    def _open(self) -> bool:
        """Open the descriptors; False if this system has no inotify."""
        if (opened := self._opened.get(None) or self._open_both()) is not None:
            self._wake_handle, self.handle = opened  # the same in each thread
        return opened is not None

    def _open_both(self) -> tuple[int, int] | None:
        handle = inotify.open_inotify() if self.native else None
        if handle is None:
            return None
        try:
            wake_handle = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            try:
                os.close(os.dup(handle))  # leave a descriptor for the files of the spool
            except OSError:
                os.close(wake_handle)
                raise
        except OSError:
            os.close(handle)
            raise
        ours = wake_handle, handle
        if (opened := self._opened.setdefault(None, ours)) is not ours:  # by another thread
            for each in ours:
                os.close(each)
        return opened

    def close(self) -> None:
        """Close the descriptors, in a forked child. They are the parent's."""
        for each in itertools.chain(*self._opened.values()):
            os.close(each)
        for epoll in self._epoll.values():
            epoll.close()

    # -- pipes --------------------------------------------------------------------------

    def add_pipe(self, pipe: int, on_data: Callable[[], object]) -> bool:
        """Call `on_data` when a pipe can be read, in only one of the processes waiting for it.

        Returns:
            False if that is impossible: without inotify, or with gevent, which has no epoll.
        """
        if self.handle is None or not hasattr(select, "epoll"):
            return False
        self._pipes[pipe] = on_data
        try:
            if None not in self._epoll:
                epoll = select.epoll(flags=select.EPOLL_CLOEXEC)
                epoll.register(self.handle, select.EPOLLIN)
                epoll.register(self._wake_handle, select.EPOLLIN)
                self._epoll.setdefault(None, epoll)
            self._epoll[None].register(pipe, select.EPOLLIN | select.EPOLLEXCLUSIVE)
        except OSError:
            self._pipes.pop(pipe, None)
            return False
        if _LEADER in self._office:  # it may not wait for pipes yet
            with contextlib.suppress(BlockingIOError):
                os.eventfd_write(self._wake_handle, 1)
        return True

    def remove_pipe(self, pipe: int) -> None:
        """Stop waiting for a pipe."""
        if self._pipes.pop(pipe, None) is not None:
            with contextlib.suppress(OSError, KeyError):
                self._epoll[None].unregister(pipe)

    # -- sleeping -----------------------------------------------------------------------

    def sleep(self, sleeper: Sleeper, seconds: float) -> None:
        """Block until `sleeper` is woken, or for `seconds`; lead meanwhile if no other thread does.

        It may return early.
        """
        now = time.monotonic()
        sleeper.until = until = now + seconds
        try:
            self._sleepers[sleeper] = None
            while not sleeper.rung and now < until:
                if self.handle is not None and self._leads(sleeper, now):
                    self._listen(sleeper, until - now)
                    if not sleeper.rung and len(self._sleepers) == 1:
                        sleeper.doze(min(_GATHER, until - time.monotonic()))
                else:
                    sleeper.lock.acquire(timeout=until - now)
                now = time.monotonic()
        finally:
            # A leaving thread hands the lead on, even if it was just given the lead.
            self._sleepers.pop(sleeper, None)
            if self._office.get(_LEADER) is sleeper:
                self._resign(sleeper)
            if self._sleepers and _LEADER not in self._office:
                for other in list(self._sleepers)[:1]:
                    other.nudge()

    def _resign(self, sleeper: Sleeper) -> None:
        """Give up the lead, to the sleep that a signal handler with this one has interrupted."""
        before, sleeper.interrupted = sleeper.interrupted, None
        if before is None or before not in self._sleepers:
            self._office.pop(_LEADER, None)
            return
        # In this order: a thread that wakes it marks it first, and then checks which one leads.
        self._office[_LEADER] = before
        if before.rung:
            self.wake(before)

    def wake(self, sleeper: Sleeper) -> None:
        """End the sleep of a thread, or its next one."""
        # In this order: a thread takes the lead before it checks `rung`.
        sleeper.rung = True
        if self._office.get(_LEADER) is not sleeper or not sleeper.blocked:
            try:  # `nudge`, without a call
                sleeper.lock.release()
            except RuntimeError:
                return
        else:  # it is blocked by `poll`, even if this is a signal handler in its thread
            with contextlib.suppress(BlockingIOError):  # it was woken very often
                os.eventfd_write(self._wake_handle, 1)

    def _leads(self, sleeper: Sleeper, now: float) -> bool:
        if (leader := self._office.setdefault(_LEADER, sleeper)) is sleeper:
            return True
        # A thread has one sleep at a time. An earlier one was ended by an exception, or is
        # suspended while a signal handler sleeps in the same thread.
        if leader.thread == sleeper.thread:
            sleeper.interrupted = leader
        if leader.thread == sleeper.thread or now > leader.until + _OVERDUE:
            self._office[_LEADER] = sleeper
            return True
        return False

    def _listen(self, sleeper: Sleeper, seconds: float) -> None:
        sleeper.blocked = True
        if sleeper.rung:
            return
        if self._pipes and None in self._epoll:
            ready = self._epoll[None].poll(seconds)
        else:
            # Made each time: gevent replaces `poll`, and its pollers belong to one greenlet.
            poller = select.poll()
            poller.register(self.handle or 0, select.POLLIN)
            poller.register(self._wake_handle, select.POLLIN)
            ready = poller.poll(seconds * 1000)
        sleeper.blocked = False
        for handle, _ in ready:
            if handle == self._wake_handle:
                with contextlib.suppress(BlockingIOError):
                    os.eventfd_read(handle)
            elif handle == self.handle:
                self.take()
            elif (on_data := self._pipes.get(handle)) is not None:
                on_data()

    def hear(self) -> None:
        """Pass events to the watches, unless a thread listens, which does so itself."""
        if self.handle is not None and _LEADER not in self._office:
            self.take()

    def take(self) -> None:
        """Pass events to the watches. Any number of threads may do so at a time."""
        taken: list[bytes] = []
        try:
            # The bytes are in the list before any signal handler can run.
            taken.extend(map(os.read, (self.handle or 0,), (_READ_SIZE,)))
            for data in taken:
                for number, mask, name in inotify.events(data):
                    self._tell(number, mask, name)
        except BlockingIOError:
            return  # another thread was faster
        except BaseException:
            self._tell_of_missed()
            raise

    def _tell(self, number: int, mask: int, name: str) -> None:
        if mask & inotify.OVERFLOW:
            self._tell_of_missed()
            return
        for watch, known in self._watches.copy().items():
            if known != number:
                continue
            if mask & inotify.GONE:
                self._watches.pop(watch, None)
                watch.works = False
            watch.on_event(None if mask & inotify.GONE else name)

    def _tell_of_missed(self) -> None:
        for watch in self._watches.copy():
            watch.on_event(None)


_watches = Watches()


def watches() -> Watches:
    """The watches and sleepers of this process. A forked child has its own."""
    return _watches


def begin_anew(*, native: bool | None = None) -> None:
    """Forget all watches and sleepers, in a forked child: the descriptors are its parent's."""
    global _watches  # noqa: PLW0603 - the parent's descriptors must not be read here
    _watches.close()
    _watches = Watches(native=_watches.native if native is None else native)


if sys.platform != "win32":
    os.register_at_fork(after_in_child=begin_anew)
