"""Errors of executors that are not those of calls."""

from __future__ import annotations

from concurrent.futures import BrokenExecutor

from fsqueue.errors import WorkerLostError


class InitializerError(WorkerLostError, BrokenExecutor):
    """The initializer of an executor failed in a worker, so none of its calls can run."""
