"""Decides whether a body that failed is retried, and when."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from fsqueue.common.values import LONGEST
from fsqueue.errors import RetryError

if TYPE_CHECKING:
    from fsqueue.spool.format.records import RetryPolicy


def delay_before_retry(policy: RetryPolicy, error: BaseException, retries: int) -> float | None:
    """Seconds to wait before a failed body is retried; None if it is not retried.

    Args:
        policy: the task's options.
        error: the error that the body raised.
        retries: number of earlier retries.
    """
    if retries >= policy.times or not _is_retried(policy, error):
        return None
    if isinstance(error, RetryError) and error.delay is not None:
        return error.delay
    try:
        delay = min(policy.longest, policy.delay * policy.factor**retries)
    except OverflowError:  # after more than a thousand retries
        delay = policy.longest if policy.delay else 0.0
    return min(LONGEST, delay * (1 + policy.jitter * random.random()))  # noqa: S311


def _is_retried(policy: RetryPolicy, error: BaseException) -> bool:
    if isinstance(error, RetryError):
        return True
    names = {f"{cls.__module__}.{cls.__qualname__}" for cls in type(error).__mro__}
    return not names.isdisjoint(policy.classes)
