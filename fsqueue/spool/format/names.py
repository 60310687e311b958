"""Names of files and folders in the spool.

A file is fully identified by its name. ``<client>-<n>.<attempt>`` is attempt `attempt` of the
invocation ``<client>-<n>``, whose outcome goes to the mailbox of `client`. A suffix ``r2`` means
that two of the earlier attempts failed and were retried; the others lost their worker. A suffix
``x`` means that the call was cancelled: the worker that claims it publishes that outcome instead of
running it.

A file may hold a batch of calls. ``<client>-<n>:<k>`` is call `k` of the batch ``<client>-<n>``.

A lane, ``<digest>-<N>``, is the folder of a concurrency limit of N calls.
"""

from __future__ import annotations

import functools
import hashlib
import math
import re
import secrets
from typing import Final, NamedTuple

_CLIENT = r"[a-z0-9]{4,32}"
_CLIENT_NAME = re.compile(_CLIENT, re.ASCII)
_INVOCATION = re.compile(rf"({_CLIENT})-(\d{{1,15}})", re.ASCII)
_MEMBER = re.compile(rf"({_CLIENT}-\d{{1,15}}):(\d{{1,6}})", re.ASCII)
_COUNT = r"[1-9]\d{0,5}"
_ATTEMPT = re.compile(rf"({_CLIENT}-\d{{1,15}})\.({_COUNT})(?:r({_COUNT}))?(x?)", re.ASCII)
_SLOT = re.compile(r"(\d)\.(\d{13})", re.ASCII)
_TEMPORARY = re.compile(r"[a-z2-7]{4,32}\.\d{1,15}", re.ASCII)
_KEY = re.compile(r"[0-9a-f]{32}", re.ASCII)
_ENTRY = re.compile(r"[1-9]\d{0,14}", re.ASCII)
_LANE = re.compile(r"[a-z0-9]{8,64}-([1-9]\d{0,4})", re.ASCII)
_HOLDER = re.compile(
    rf"({_CLIENT}-\d{{1,15}})@([A-Za-z0-9_-]{{1,64}})\.(\d{{1,10}}-[\d-]{{0,32}})\.([a-z2-7]{{1,16}})",
    re.ASCII,
)
_SAFE = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)

INVOCATION_PATTERN: Final = rf"(?a)^{_INVOCATION.pattern}\Z"
"""Matches an invocation's id, for records that are validated while they are decoded."""
SAFE_PATTERN: Final = rf"^({_SAFE.pattern})?\Z"
"""Likewise, matches a safe name or the empty string."""

MAX_PRIORITY = 9
DEFAULT_PRIORITY = 5
DEFAULT_QUEUE = "default"
EXECUTOR_PREFIX = "executor-py"
"""Prefix of the names of built-in applications; the digits of a Python version follow."""
PAUSED = "paused"
"""A marker file among a queue's slots: no worker may claim calls of that queue."""
_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"


def new_token(length: int = 10) -> str:
    """A random part of a name: 5 bits per character, safe on every filesystem."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def is_safe_name(text: str) -> bool:
    """Whether `text` is safe as part of a path: letters, digits, ``-`` and ``_``."""
    return _SAFE.fullmatch(text) is not None


def app_of(queue: str) -> str:
    """The application to which a queue's folder belongs."""
    return queue.partition(".")[0]


def queue_folder(app_id: str, queue: str, profile: str = "") -> str:
    """The folder name of an application's queue, with the profile of needed resources, if any."""
    return f"{app_id}.{queue}.{profile}" if profile else f"{app_id}.{queue}"


def split_profile(folder: str) -> tuple[str, str]:
    """Split a queue's folder name into the queue and its resource profile, which may be empty."""
    app_id, _, rest = folder.partition(".")
    queue, _, profile = rest.partition(".")
    return (f"{app_id}.{queue}" if queue else app_id), profile


def folder_of(path: str) -> str:
    """The folder name of the queue in which the attempt at `path` is pending."""
    return path.rsplit("/", 3)[1]


def is_client_name(text: str) -> bool:
    """Whether `text` names a client."""
    return _CLIENT_NAME.fullmatch(text) is not None


@functools.lru_cache(maxsize=256)
def is_queue_name(text: str) -> bool:
    """Whether `text` is a queue's folder name: ``<application>.<queue>[.<profile>]``."""
    return all(is_safe_name(part) for part in text.split("."))


def is_temporary_name(text: str) -> bool:
    """Whether `text` may name a file in ``tmp/``."""
    return _TEMPORARY.fullmatch(text) is not None


def is_key_name(text: str) -> bool:
    """Whether `text` is a digest, as keys are."""
    return _KEY.fullmatch(text) is not None


@functools.lru_cache(maxsize=256)
def is_slot_name(text: str) -> bool:
    """Whether `text` names a `Slot`."""
    return _SLOT.fullmatch(text) is not None


def is_entry_name(text: str) -> bool:
    """Whether `text` names an entry of a deduplication key."""
    return _ENTRY.fullmatch(text) is not None


def is_invocation_id(text: str) -> bool:
    """Whether `text` names an invocation's file."""
    return _INVOCATION.fullmatch(text) is not None


def split_member(text: str) -> tuple[str, int | None]:
    """Split a call's id into the invocation whose file holds it, and its place in a batch."""
    match = _MEMBER.fullmatch(text)
    return (match[1], int(match[2])) if match else (text, None)


@functools.lru_cache(maxsize=256)
def client_of(invocation_id: str) -> str:
    """The client to whose mailbox an invocation's outcome goes.

    Raises:
        ValueError: not an invocation id.
    """
    match = _INVOCATION.fullmatch(invocation_id)
    if match is None:
        raise ValueError(f"{invocation_id!r} is not an invocation id (like 'kq3x7abcde-42')")
    return match[1]


def retried_id(invocation_id: str) -> str:
    """The id for a retry of a failed invocation. It depends only on the failed id."""
    client, _, number = invocation_id.rpartition("-")
    digest = hashlib.blake2b(client.encode(), digest_size=10, person=b"fsqueue retry")
    return f"{digest.hexdigest()}-{number}"


class AttemptName(NamedTuple):
    """The name of a call's file."""

    invocation_id: str
    attempt: int
    retries: int = 0
    """How many earlier attempts failed and were retried, instead of losing their worker."""
    cancelled: bool = False

    @classmethod
    def parse(cls, name: str) -> AttemptName | None:
        """Parse a file's name; None if it is not the name of an attempt."""
        match = _ATTEMPT.fullmatch(name)
        if match is None:
            return None
        attempt, retries = int(match[2]), int(match[3] or 0)
        if retries >= attempt:
            return None
        return cls(match[1], attempt, retries, bool(match[4]))

    @property
    def deaths(self) -> int:
        """How many earlier attempts lost their worker."""
        return self.attempt - 1 - self.retries

    def after_death(self) -> AttemptName:
        """The next attempt after the death of this one's worker."""
        return self._replace(attempt=self.attempt + 1)

    def after_failure(self) -> AttemptName:
        """The next attempt after this one failed and is retried."""
        return self._replace(attempt=self.attempt + 1, retries=self.retries + 1)

    def __str__(self) -> str:
        if not (self.retries or self.cancelled):
            return f"{self.invocation_id}.{self.attempt}"
        retries = f"r{self.retries}" if self.retries else ""
        return f"{self.invocation_id}.{self.attempt}{retries}{'x' if self.cancelled else ''}"


def in_order(name: AttemptName) -> tuple[str, int, int]:
    """Sort key for the calls in a folder: each client's calls in the order they were made."""
    client, _, number = name.invocation_id.rpartition("-")
    return client, int(number), name.attempt


class Slot(NamedTuple):
    """A folder of pending calls that have the same priority and due time.

    Sorted by name, slots are in the order of service.
    """

    priority: int
    due: float
    """Seconds since the epoch by the file server's clock."""

    @classmethod
    @functools.lru_cache(maxsize=1024)
    def parse(cls, name: str) -> Slot | None:
        """Parse a folder's name; None if it is not a slot."""
        match = _SLOT.fullmatch(name)
        return cls(MAX_PRIORITY - int(match[1]), int(match[2]) / 1000) if match else None

    def __str__(self) -> str:
        return f"{MAX_PRIORITY - self.priority}.{math.ceil(self.due * 1000):013d}"


def lane_limit(lane: str) -> int:
    """How many calls of a concurrency limit may run at a time; 0 if `lane` is not a lane's name."""
    match = _LANE.fullmatch(lane)
    return int(match[1]) if match else 0


class Holder(NamedTuple):
    """The holder of a permit, encoded in a folder's name that is used only once."""

    invocation_id: str
    worker: str
    """The worker in whose folder the call lies while it has the permit."""
    process: str
    """The process that runs the task. It can briefly outlive a killed worker."""
    token: str

    @classmethod
    def parse(cls, name: str) -> Holder | None:
        """Parse a folder's name; None if it is not a holder."""
        match = _HOLDER.fullmatch(name)
        return cls(*match.groups()) if match else None

    def __str__(self) -> str:
        return f"{self.invocation_id}@{self.worker}.{self.process}.{self.token}"


class WaitingFolder(NamedTuple):
    """A folder of calls that wait for a concurrency limit and will return to the same slot.

    Sorted by name, waiting folders are in the order of service.
    """

    slot: str
    queue: str
    lender: str = ""
    """The invocation on whose behalf these calls were made. It holds a permit."""

    @classmethod
    def parse(cls, name: str) -> WaitingFolder | None:
        """Parse a folder's name; None if it is not a waiting folder."""
        if "~" not in name:
            return None
        slot, *others = name.split("~")
        if not is_slot_name(slot) or len(others) > 2:  # noqa: PLR2004 - with a lender
            return None
        found = cls(slot, *others)
        lender_fits = not others[1:] or is_invocation_id(found.lender)
        return found if is_queue_name(found.queue) and lender_fits else None

    def may_hold(self, hint: str | None) -> bool:
        """Whether a call published at `hint` may wait here. A retry moves it to a later slot."""
        if hint is None:
            return True
        queue, slot = hint.split("/")[-3:-1]
        return self.queue == queue and self.slot >= slot

    def __str__(self) -> str:
        return "~".join([self.slot, self.queue, *([self.lender] if self.lender else [])])
