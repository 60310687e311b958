"""Values and exceptions whose own code exits or interrupts while they travel."""

import sys

from tasks import app


class Own(BaseException):
    """Neither an exit nor an `Exception`."""


def interrupt():
    raise KeyboardInterrupt


class ReduceExits(Exception):
    def __reduce__(self):
        raise SystemExit(3)


class ReduceRaisesOwn(Exception):
    def __reduce__(self):
        raise Own


class LoadExits(Exception):
    def __reduce__(self):
        return sys.exit, (4,)


class LoadInterrupts(Exception):
    def __reduce__(self):
        return interrupt, ()


class StrExits(Exception):
    def __str__(self):
        raise SystemExit(5)


class CauseExits(Exception):
    @property
    def __cause__(self):
        raise SystemExit(6)


class Unnamed(type):
    def __getattribute__(cls, name):
        if name in {"__name__", "__qualname__", "__module__"}:
            raise SystemExit(7)
        return super().__getattribute__(name)


class NameExits(Exception, metaclass=Unnamed):
    pass


class NoteExits(Exception):
    def add_note(self, note):
        raise SystemExit(note)


ALL = {
    "reduce": ReduceExits,
    "own": ReduceRaisesOwn,
    "load": LoadExits,
    "interrupt": LoadInterrupts,
    "str": StrExits,
    "cause": CauseExits,
    "name": NameExits,
    "note": NoteExits,
}


@app.direct_task(retry_for=ValueError)
def fail(name):
    raise ALL[name]("words")


@app.direct_task(max_retries=1, retry_delay=0.0, retry_for=Exception)
def fail_twice(name):
    raise ALL[name]("words")


@app.direct_task
def fail_with_cause(name):
    raise ValueError("outer") from ALL[name]("words")


@app.direct_task
def give(name):
    return [ALL[name]("words")]


@app.direct_task
def take(value):
    return value


@app.direct_task(
    parallel_func=lambda call: [(name,) for name in call["names"]],
    aggregate_func=list,
    parallel_batch_size=10,
)
def fail_together(names):
    raise ALL[names]("words")
