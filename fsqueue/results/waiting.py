"""`wait` and `as_completed` for invocations and futures, like those of `concurrent.futures`.

The two kinds can be mixed, and the futures may come from any executor.
"""

from __future__ import annotations

from concurrent import futures
from concurrent.futures import ALL_COMPLETED, Future
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class HasFuture(Protocol):
    """An invocation."""

    def future(self) -> Future[Any]:
        """The future of the call."""


W = TypeVar("W", bound="HasFuture | Future[Any]")


class Waited(NamedTuple):
    """What `wait` returns, as `concurrent.futures.wait` does."""

    done: set[Any]
    not_done: set[Any]


def wait(
    calls: Iterable[HasFuture | Future[Any]],
    timeout: float | None = None,
    return_when: str = ALL_COMPLETED,
) -> Waited:
    """Wait until calls have ended, in any way.

    Args:
        calls: invocations, groups' members, futures.
        timeout: longest wait in seconds; None means no limit.
        return_when: ``"ALL_COMPLETED"``, ``"FIRST_COMPLETED"`` or ``"FIRST_EXCEPTION"``.

    Returns:
        ``done`` and ``not_done``: the sets of the calls that have ended and of the others.
    """
    owners = _by_future(calls)
    done, not_done = futures.wait(owners, timeout, return_when)
    return Waited(_of(done, owners), _of(not_done, owners))


def as_completed(calls: Iterable[W], timeout: float | None = None) -> Iterator[W]:
    """Yield calls as they end, each once.

    Args:
        calls: invocations, groups' members, futures.
        timeout: longest wait for all of them together, in seconds; None means no limit.

    Raises:
        TimeoutError: some have not ended in time. They continue.
    """
    owners = _by_future(calls)
    for future in futures.as_completed(list(owners), timeout):
        yield from owners.pop(future)


def _by_future(calls: Iterable[W]) -> dict[Future[Any], list[W]]:
    found: dict[Future[Any], list[W]] = {}
    for call in dict.fromkeys(calls):
        future = call if isinstance(call, Future) else call.future()
        found.setdefault(future, []).append(call)
    return found


def _of(found: Iterable[Future[Any]], owners: dict[Future[Any], list[Any]]) -> set[Any]:
    return {call for future in found for call in owners[future]}
