"""The backend "fsqueue" of joblib: `import fsqueue.integrations.joblib` registers it.

::

    with joblib.parallel_config("fsqueue", root="/shared/spool"):
        GridSearchCV(...).fit(X, y)

Batches of joblib are calls of a `fsqueue.Executor`. Its parts are named by their content, so a
large array is written once, however many batches contain it.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import weakref
from typing import TYPE_CHECKING, Any, Final

import joblib
from joblib._parallel_backends import (
    AutoBatchingMixin,
    FallbackToBackend,
    ParallelBackendBase,
    SequentialBackend,
)

import fsqueue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from concurrent.futures import Future

# Options that joblib passes to its own pools. They are ignored: large arrays are always sent once.
_OF_POOLS: Final = {"max_nbytes", "temp_folder", "mmap_mode", "verbose", "context"}
# The variable of each kind of native thread pool, as threadpoolctl calls the kinds.
_KINDS: Final = {
    "openmp": ("OMP_NUM_THREADS",),
    "blas": ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"),
}


if TYPE_CHECKING:

    class _Backend:  # joblib has no types
        def __init__(self, **options: Any) -> None: ...
        def __getattr__(self, name: str) -> Any: ...
else:

    class _Backend(AutoBatchingMixin, ParallelBackendBase):
        pass


class FSQueueBackend(_Backend):
    """Runs the batches of a `joblib.Parallel` on the workers of a spool.

    ``n_jobs=-1`` means the slots of all live workers, but at least one. A nested `joblib.Parallel`
    runs in threads of its worker, or on the workers if it names this backend.

    joblib does not tell a backend that the ``with`` block of its `parallel_config` has ended. The
    object of a ``with`` statement is referenced only by the interpreter. So the backend watches the
    `parallel_config` or `Parallel` that created it, and local workers leave when that is deleted.

    Args:
        nesting_level: set by joblib.
        inner_max_num_threads: the number of threads of native libraries in each batch. The default
            is the number of the worker's CPUs divided by `n_jobs`, or the caller's
            ``OMP_NUM_THREADS`` and its like.
        options: arguments of `fsqueue.Executor`, such as ``root`` and ``workers``.
    """

    supports_retrieve_callback = True
    supports_inner_max_num_threads = True

    def __init__(
        self,
        nesting_level: int | None = None,
        inner_max_num_threads: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__(nesting_level=nesting_level, inner_max_num_threads=inner_max_num_threads)
        self._options = options
        self._executors: dict[int | None, fsqueue.Executor] = {}
        self._workers: fsqueue.Executor | None = None
        self._futures: dict[Future[Any], None] = {}
        self._threads: dict[str, int] = {}
        self._n_jobs = 1
        self._is_left = False
        owner = sys._getframe(1).f_locals.get("self")  # noqa: SLF001
        if isinstance(owner, joblib.parallel_config | joblib.Parallel):
            weakref.finalize(owner, _leave, weakref.ref(self)).atexit = False

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (self.nesting_level, self.inner_max_num_threads, self._options)

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """The number of batches that can run at a time.

        Raises:
            ValueError: `n_jobs` is 0.
        """
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None:
            return 1
        if n_jobs < 0:
            return max(self._executor_for(None)._max_workers + 1 + n_jobs, 1)  # noqa: SLF001
        return n_jobs

    def configure(
        self,
        n_jobs: int | None = 1,
        parallel: joblib.Parallel | None = None,
        prefer: str | None = None,
        require: str | None = None,
        **options: Any,
    ) -> int:
        """Prepare for the batches of a `joblib.Parallel`; returns the effective `n_jobs`.

        Raises:
            FallbackToBackend: one job runs in this process.
        """
        del prefer, require
        self._options |= {key: each for key, each in options.items() if key not in _OF_POOLS}
        effective = self.effective_n_jobs(n_jobs)
        if effective == 1:
            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        self.parallel = parallel
        self._n_jobs = effective
        self._workers = self._executor_for(None if n_jobs is None or n_jobs < 0 else n_jobs)
        self._threads = _thread_limits(self.inner_max_num_threads)
        return effective

    def _executor_for(self, max_workers: int | None) -> fsqueue.Executor:
        if "workers" in self._options:
            max_workers = None  # all executors share the local workers
        if max_workers not in self._executors:
            self._executors[max_workers] = fsqueue.Executor(max_workers, **self._options)
        return self._executors[max_workers]

    def submit(
        self, func: Callable[[], Any], callback: Callable[[Future[Any]], object] | None = None
    ) -> Future[Any]:
        """Send a batch."""
        if self._workers is None:
            raise RuntimeError("joblib submits only after `configure`")
        future = self._workers.submit(run_batch, func, self._threads, self._n_jobs)
        self._futures[future] = None
        future.add_done_callback(self._forget)
        if callback is not None:
            future.add_done_callback(callback)
        return future

    def _forget(self, future: Future[Any]) -> None:
        self._futures.pop(future, None)

    def retrieve_result_callback(self, out: Future[Any]) -> Any:
        """The values of a batch. Raises what its first failed task raised."""
        try:
            return out.result()
        except fsqueue.SerializationError as error:
            raise fsqueue.SerializationError(
                f"Could not pickle the task to send it to the workers: {error}"
            ) from error

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Cancel the waiting batches, and stop the running ones.

        Args:
            ensure_ready: whether more batches will be submitted.
        """
        # Backwards, because the end of a batch makes room for the next waiting one.
        running = [future for future in reversed(list(self._futures)) if not future.cancel()]
        for future in running:
            with contextlib.suppress(OSError, fsqueue.FSQueueError):
                if (pending_result := getattr(future, "pending_result", None)) is not None:
                    pending_result.cancel()
        self._release()
        if ensure_ready and self.parallel is not None:
            self.configure(n_jobs=self.parallel.n_jobs, parallel=self.parallel)

    def terminate(self) -> None:
        """Release the executors after a `joblib.Parallel`. Local workers stay for the next one."""
        self.reset_batch_stats()
        self._workers = self.parallel = None  # which refers to this backend
        self._release()

    def leave(self) -> None:
        """Let local workers leave, now or at the end of the `joblib.Parallel` that uses them."""
        self._is_left = True
        if self._workers is None:
            self._release()

    def _release(self) -> None:
        if "workers" in self._options and not self._is_left:
            return
        executors, self._executors = self._executors, {}
        for executor in executors.values():
            executor.shutdown(wait=False)


def _again(nesting_level: int | None, threads: int | None, options: Any) -> FSQueueBackend:
    return FSQueueBackend(nesting_level, threads, **options)


def _leave(backend: Callable[[], FSQueueBackend | None]) -> None:
    if (left := backend()) is not None:
        left.leave()


def _thread_limits(explicit: int | None) -> dict[str, int]:
    """The numbers of threads that the caller has set, by environment variable."""
    names: list[str] = ParallelBackendBase.MAX_NUM_THREADS_VARS
    if explicit is not None:
        return dict.fromkeys(names, explicit)
    given = {name: os.environ.get(name, "") for name in names}
    return {name: int(value) for name, value in given.items() if value.isdecimal()}


# -- on the worker ----------------------------------------------------------------------------


def run_batch(batch: Callable[[], Any], threads: Mapping[str, int], n_jobs: int) -> Any:
    """Run a batch of joblib in the body of a call.

    Args:
        batch: returns the values.
        threads: numbers of native threads by environment variable.
        n_jobs: number of batches that run at a time.
    """
    names: list[str] = ParallelBackendBase.MAX_NUM_THREADS_VARS
    default = max(joblib.cpu_count() // n_jobs, 1)
    numbers = {name: threads.get(name, default) for name in names}
    with _environment(numbers), _limited(numbers):
        return batch()


@contextlib.contextmanager
def _environment(numbers: Mapping[str, int]) -> Iterator[None]:
    """Set the variables, for libraries that are loaded in the block and for programs."""
    if threading.current_thread() is not threading.main_thread():
        yield  # other bodies of this process share the variables
        return
    before = {name: os.environ.get(name) for name in numbers}
    os.environ.update({name: str(number) for name, number in numbers.items()})
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


_controller: tuple[int, Any] | None = None


@contextlib.contextmanager
def _limited(numbers: Mapping[str, int]) -> Iterator[None]:
    """Limit the native thread pools that are loaded."""
    global _controller  # noqa: PLW0603 - kept, as it takes milliseconds to make
    if _controller is None or _controller[0] != len(sys.modules):
        from threadpoolctl import ThreadpoolController

        _controller = len(sys.modules), ThreadpoolController()
    limits = {kind: min(numbers[name] for name in names) for kind, names in _KINDS.items()}
    with _controller[1].limit(limits=limits):
        yield


joblib.register_parallel_backend("fsqueue", FSQueueBackend)
