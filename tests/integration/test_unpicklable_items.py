"""Arguments and results that cannot travel: what the errors name, and what is left behind."""

from __future__ import annotations

import os
import threading

import pytest
from support import files_under

from fsqueue.errors import SerializationError
from integration import sample_tasks as sample
from integration.conftest import working

COUNT, BAD = 1000, 736


@pytest.fixture
def items():
    found = [0] * COUNT
    found[BAD] = {"deep": [threading.Lock()]}
    return found


def made(app):
    """What a fan-out has left in the spool."""
    names = list(files_under(app.store.layout.root))
    return [name for name in names if name.startswith(("pending/", "tmp/", "after/", "blobs/"))]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"parallel_batch_size": 10},
        {"parallel_batch_size": "auto"},
        {"serializer": "pickle"},
        {"serializer": "json"},
        {"running_concurrency": "arguments"},
        {"registration_concurrency": "arguments"},
        {"call_result_cache": True},
    ],
    ids=str,
)
def test_an_item_that_cannot_be_serialized_is_named_and_no_call_is_made(app, items, options):
    task = app.task(**options)(sample.echo)
    with pytest.raises(SerializationError) as caught:
        task.parallelize([(item,) for item in items], {})
    assert f"item {BAD}: " in str(caught.value)
    assert "part ['deep'][0] of positional argument 0" in str(caught.value)
    assert made(app) == []


def test_an_argument_by_name_is_named(app):
    with pytest.raises(SerializationError, match=r"argument 'value' of type _thread.lock"):
        app.task(sample.echo)(value=threading.Lock())
    with pytest.raises(SerializationError, match=r"part \[1\] of argument 'value' of type"):
        app.task(sample.echo)(value=(1, threading.Lock()))
    assert made(app) == []


def test_common_arguments_are_named(app):
    with pytest.raises(SerializationError, match=r"the common arguments .* its part .'factor'. of"):
        app.task(sample.scaled).parallelize([(1,)], {"factor": threading.Lock()})
    assert made(app) == []


def split(call):
    return [(item,) for item in call["value"]]


def test_the_fan_out_of_a_direct_task_names_the_item(app, items):
    task = app.direct_task(parallel_func=split, aggregate_func=list)(sample.echo)
    with pytest.raises(SerializationError, match=f"item {BAD}: "):
        task(items)
    assert made(app) == []


def test_an_open_file_is_refused_as_argument_and_as_result(app):
    opened = app.task(sample.opened_file)
    with working(app), open(sample.__file__, encoding="utf-8") as file:
        with pytest.raises(SerializationError, match="an open file"):
            app.task(sample.echo)(file)
        for wrapped in (False, True):
            with pytest.raises(SerializationError, match=r"the result of .*an open file"):
                opened(sample.__file__, wrapped).get(60)
        assert opened(os.devnull, None).get(60) == os.devnull
