"""Points 2 and 8: settings reach the app, and what cannot become a task."""

from __future__ import annotations

import functools
import types

import pytest

from fsqueue import ConfigError, FSQueue, Task
from fsqueue.errors import TaskNotFoundError
from integration import sample_tasks as sample
from integration.conftest import working

BOTH = pytest.mark.parametrize("kind", ["task", "direct_task"])


class Holder:
    def method(self):
        """Not a task."""

    @staticmethod
    def static():
        """Neither."""


def generator():
    yield 1


async def async_generator():
    yield 1


def nested():
    def inner():
        return 1

    return inner


def defined_in(module, line=1):
    names = {"__name__": module}
    exec(compile("\n" * line + "def work(): return 1", f"{module}.py", "exec"), names)
    return names["work"]


def test_task_keeps_the_function(app):
    task = app.task(sample.add)
    assert isinstance(task, Task)
    assert task.name == "integration.sample_tasks.add"
    assert (task.__name__, task.__doc__) == ("add", "Add.")
    assert task.func is sample.add


@BOTH
def test_options(app, kind):
    decorate = getattr(app, kind)
    assert decorate()(sample.add)
    assert decorate(max_attempts=2)(sample.add)
    with pytest.raises(TypeError, match=r"unknown task option colour.*max_attempts"):
        decorate(colour="red")(sample.add)
    for bad in (0, -1, "3", True, 1.5):
        with pytest.raises(ValueError, match="max_attempts"):
            decorate(max_attempts=bad)(sample.add)


@BOTH
def test_main_script(app, kind):
    with pytest.raises(RuntimeError, match=r"work is defined in the main script.*module"):
        getattr(app, kind)(defined_in("__main__"))


def test_triggers(app):
    with pytest.raises(TypeError, match=r"use @app\.task|Use @app\.task"):
        app.direct_task(triggers=[])(sample.add)


def test_fan_out_without_aggregation(app):
    with pytest.raises(ValueError, match=r"^Aggregation function required for parallel execution$"):
        app.direct_task(parallel_func=list)
    with pytest.raises(ValueError, match="parallel_func"):
        app.direct_task(aggregate_func=list)


@BOTH
@pytest.mark.parametrize(
    ("function", "message"),
    [
        (nested(), "nested function"),
        (lambda: 1, "lambda"),
        (Holder.method, "method"),
        (Holder.static, "method"),
        (Holder().method, "only functions"),
        (Holder, "only functions"),
        (len, "only functions"),
        (functools.partial(sample.add, 1), "only functions"),
        (7, "only functions"),
        (generator, "generator"),
        (async_generator, "generator"),
    ],
)
def test_refused(app, kind, function, message):
    with pytest.raises(TypeError, match=message):
        getattr(app, kind)(function)


@BOTH
def test_two_functions_of_one_name(app, kind):
    decorate = getattr(app, kind)
    first = defined_in("some_module")
    decorate(first)
    decorate(first)
    decorate(defined_in("some_module"))  # the module was imported again
    with pytest.raises(ValueError, match=r"two different functions.*some_module\.work") as caught:
        decorate(defined_in("some_module", line=5))
    assert "line 2" in str(caught.value)
    assert "line 6" in str(caught.value)
    decorate(defined_in("other_module"))


# -- point 2, briefly: tests/unit has the rest -----------------------------------------------


def test_precedence(spool, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fsqueue.toml").write_text("concurrency = 3\nmax_attempts = 5\nlease = 30\n")
    monkeypatch.setenv("FSQUEUE__CONCURRENCY", "4")
    monkeypatch.setenv("FSQUEUE__MAX_ATTEMPTS", "6")
    conf = FSQueue(root=spool, max_attempts=7).conf
    assert (conf.lease, conf.concurrency, conf.max_attempts) == (30, 4, 7)


@pytest.mark.parametrize("word", ["False", "0", "no", "off"])
def test_false_words(monkeypatch, word):
    monkeypatch.setenv("FSQUEUE__DEV_MODE_FORCE_SYNC_TASKS", word)
    assert FSQueue().conf.dev_mode_force_sync_tasks is False


def test_errors_name_the_source(monkeypatch):
    with pytest.raises(ConfigError, match=r"argument: .*colour"):
        FSQueue(colour="red")
    with pytest.raises(ConfigError, match="app_id"):
        FSQueue("../up")
    monkeypatch.setenv("FSQUEUE__LEASE", "long")
    with pytest.raises(ConfigError, match="FSQUEUE__LEASE"):
        FSQueue()


def test_worker_without_the_task(app, make_app):
    caller = make_app()
    missing = types.FunctionType(sample.echo.__code__, {"__name__": "no_such_module_xyz"}, "echo")
    missing.__qualname__ = "echo"
    unknown = caller.task(missing)
    known = caller.task(sample.echo)
    with working(app):
        with pytest.raises(
            TaskNotFoundError, match=r"cannot import no_such_module_xyz.*PYTHONPATH"
        ):
            unknown(1).get(60)
        with pytest.raises(TaskNotFoundError, match=r"no task integration\.sample_tasks\.echo"):
            known(1).get(60)
        assert app.direct_task(sample.add)(1) == 2
