"""Calls that are one while the first is pending."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support import wait_until

from fsqueue import State
from fsqueue.errors import DifferentArgumentsError
from fsqueue.spool.files.whereabouts import waiting_for_limits
from integration import sample_tasks
from integration.conftest import working


def pending(app):
    return [name for _, _, names in os.walk(app.store.layout.pending_folder) for name in names]


def counted(path, word, other=None):
    """Write down that the body runs, and return what was asked for."""
    with Path(path).open("a", encoding="utf-8") as file:
        file.write(f"{word} ")
    return word, other


def behind_gate(name, path, word):
    Path(path).with_suffix(".begun").touch()
    assert sample_tasks.gates[name].wait(60)
    return counted(path, word)[0]


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "ran")


def test_equal_arguments_are_one_call_until_it_starts(app, path):
    task = app.task(registration_concurrency="arguments")(counted)
    first, second, third = task(path, "a"), task(path, word="a", other=None), task(path, "b")
    assert first.id == second.id != third.id
    assert len(pending(app)) == 2
    with working(app):
        assert [each.get(60) for each in (first, second, third)] == [("a", None)] * 2 + [
            ("b", None)
        ]
        assert task(path, "a").get(60) == ("a", None)
    assert sorted(Path(path).read_text().split()) == ["a", "a", "b"]


def test_another_process_has_the_same_call_and_its_value(make_app, path):
    here, there = make_app(), make_app()
    first = here.task(registration_concurrency="arguments")(counted)(path, "a")
    second = there.task(registration_concurrency="arguments")(counted)(path, "a")
    assert second.id == first.id
    with working(here):
        assert second.get(60) == ("a", None)
        assert first.get(60) == ("a", None)
        assert second.get(60) == ("a", None)
    assert first.status is second.status is State.SUCCEEDED


def test_a_task_may_be_one_call_whatever_its_arguments(app, path):
    task = app.task(registration_concurrency="task")(counted)
    other = app.task(registration_concurrency="task")(sample_tasks.add)
    first, second, third = task(path, "a"), task(path, "b"), other(1)
    assert first.id == second.id != third.id
    with working(app):
        assert second.get(60) == ("a", None)


def test_key_arguments_make_calls_one(app, path):
    task = app.task(registration_concurrency="keys", key_arguments="word")(counted)
    first, second = task(path, "a", 1), task(path, "a", 2)
    assert first.id == second.id
    assert task(path, "b", 1).id != first.id
    with working(app):
        assert second.get(60) == ("a", 1), "those of the first stand"


def test_other_arguments_that_differ_can_be_refused(app, path):
    task = app.task(
        registration_concurrency="keys", key_arguments=["word"], on_diff_non_key_args_raise=True
    )(counted)
    first = task(path, "a", 1)
    assert task(path, "a", 1).id == first.id
    with pytest.raises(DifferentArgumentsError, match=f"same word is pending as {first.id}"):
        task(path, "a", 2)
    with pytest.raises(DifferentArgumentsError, match="another one of this group"):
        task.parallelize([(path, "x", 1), (path, "x", 2)])
    assert len(pending(app)) == 1, "none of the group was made"
    with working(app):
        assert first.get(60) == ("a", 1)


def test_duplicates_in_a_group_are_one_call(app, path):
    task = app.task(registration_concurrency="arguments", parallel_batch_size=10)(counted)
    group = task.parallelize([(path, word) for word in "abab"], common_args={"other": 1})
    assert [each.id for each in group] == [group[0].id, group[1].id] * 2
    assert len(pending(app)) == 2, "no two share a file"
    with working(app):
        assert group.get(60) == [("a", 1), ("b", 1)] * 2
    assert len(Path(path).read_text().split()) == 2


def test_direct_calls_wait_for_the_same_result(make_app, path):
    """One gives up: the other still gets its value."""
    here, there = make_app(), make_app()
    options = {"registration_concurrency": "arguments"}
    impatient = here.direct_task(result_timeout=0.01, **options)(counted)
    with pytest.raises(TimeoutError):
        impatient(path, "a")
    assert len(pending(here)) == 1
    patient = there.direct_task(**options)(counted)
    with ThreadPoolExecutor(1) as pool:
        value = pool.submit(patient, path, "a")
        wait_until(lambda: (client := there._session._client) and client.waiter._waiting)
        assert len(pending(here)) == 1
        with working(here):
            assert value.result(60) == ("a", None)
    assert Path(path).read_text().split() == ["a"]


def test_a_call_that_waits_for_its_turn_is_pending(app, path, gate):
    event, name = gate()
    task = app.task(registration_concurrency="task", running_concurrency="task")(behind_gate)
    with working(app):
        first = task(name, path, "a")
        # Not when it is claimed: the second call could still enter the lane before it.
        wait_until(Path(path).with_suffix(".begun").exists)
        second = task(name, path, "b")
        wait_until(
            lambda: any(os.listdir(each.path) for each in waiting_for_limits(app.store.files))
        )
        assert task(name, path, "c").id == second.id
        event.set()
        assert [first.get(60), second.get(60)] == ["a", "b"]


def test_a_cancelled_call_leaves_the_key_free(app, path):
    task = app.task(registration_concurrency="arguments")(counted)
    first = task(path, "a")
    assert task(path, "a").cancel()
    assert first.status is State.CANCELLED
    assert task(path, "a").id != first.id


def test_a_fan_out_that_fails_leaves_calls_that_others_may_share(app, path):
    task = app.task(registration_concurrency="arguments")(counted)
    shared = task(path, "a")
    shared.abandon()
    assert len(pending(app)) == 1


def test_keys_need_key_arguments_that_the_function_has(app):
    with pytest.raises(ValueError, match='registration_concurrency = "keys" needs key_arguments'):
        app.task(registration_concurrency="keys")(counted)
    with pytest.raises(ValueError, match="key_arguments names nothing"):
        app.task(registration_concurrency="keys", key_arguments=["nothing"])(counted)
    with pytest.raises(ValueError, match="registration_concurrency = 'all'"):
        app.task(registration_concurrency="all")(counted)


def test_inline_every_call_runs(make_app, path):
    app = make_app(dev_mode_force_sync_tasks=True)
    task = app.task(registration_concurrency="task")(counted)
    assert [task(path, word).result for word in "ab"] == [("a", None), ("b", None)]


def test_a_call_without_the_option_costs_what_it_did(app):
    app.task(sample_tasks.add)(1)
    assert os.listdir(app.store.layout.once_folder) == []
