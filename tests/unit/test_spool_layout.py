from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsqueue.spool.format.layout import Layout
from fsqueue.spool.format.names import (
    MAX_PRIORITY,
    AttemptName,
    Slot,
    client_of,
    is_safe_name,
    new_token,
)

slots = st.builds(
    Slot,
    st.integers(0, MAX_PRIORITY),
    st.integers(0, 10**12).map(lambda milliseconds: milliseconds / 1000),
)


@given(slots, slots)
def test_slots_sort_by_priority_and_then_by_time(one, other):
    if (-one.priority, one.due) < (-other.priority, other.due):
        assert str(one) <= str(other)  # the same within a millisecond


@given(slots)
def test_slots_are_read_as_written(slot):
    parsed = Slot.parse(str(slot))
    assert parsed is not None
    assert parsed.priority == slot.priority
    assert 0 <= parsed.due - slot.due < 0.0011


@given(st.floats(0, 9 * 10**9))
def test_a_slot_is_never_due_too_early(due):
    parsed = Slot.parse(str(Slot(5, due)))
    assert parsed is not None
    assert parsed.due >= due - 1e-6
    assert parsed.due - due < 0.0011


@pytest.mark.parametrize(
    "name", ["", "x", "4.123", "4.12345678901234", "44.0000000000000", "4.000000000000٣", "4-1"]
)
def test_what_is_no_slot(name):
    assert Slot.parse(name) is None


@pytest.mark.parametrize(
    "name",
    [
        "",
        "abcd-1",
        "abcd-1.0",
        "abcd-1.01",
        "abcd-1.1234567",
        "ABCD-1.1",
        "abc-1.1",
        "abcd-1.1.1",
        "abcd-1.1\n",
        "../abcd-1.1",
        ".abcd-1.1",
        "abcd-٣.1",
    ],
)
def test_what_is_no_attempt(name):
    assert AttemptName.parse(name) is None


def test_attempts_are_read_as_written():
    name = AttemptName("kq3x7abcde-42", 7)
    assert str(name) == "kq3x7abcde-42.7"
    assert AttemptName.parse(str(name)) == name


def test_an_id_tells_its_client():
    assert client_of("kq3x7abcde-42") == "kq3x7abcde"
    for bad in ("kq3x7abcde", "../x-1", "kq3x7abcde-42.1", "kq3x7abcde-"):
        with pytest.raises(ValueError, match="not an invocation id"):
            client_of(bad)


def test_tokens_are_clients():
    tokens = {new_token() for _ in range(100)}
    assert len(tokens) == 100
    assert all(client_of(f"{token}-1") == token for token in tokens)


@pytest.mark.parametrize("text", ["", ".", "..", "a/b", "a.b", "ä", "a" * 65, "a\n", "a b"])
def test_unsafe_names(text):
    assert not is_safe_name(text)


def test_safe_names():
    assert is_safe_name("fsqueue-3_X")


def test_all_paths_are_under_the_root():
    layout = Layout("/r")
    name = AttemptName("abcd-1", 2)
    paths = [
        *layout.folders,
        layout.info,
        layout.tmp("o", 1),
        layout.slot("q", "s"),
        layout.running("w"),
        layout.done("abcd-1"),
        layout.kept("abcd-1"),
        layout.failed(name),
        layout.quarantined("n"),
        layout.quarantine_reason("n"),
        layout.worker_record("w"),
        layout.worker_lock("w"),
        layout.worker_beat("w"),
        layout.client_lock("c"),
        layout.upkeep_stamp,
        layout.bell("q"),
    ]
    assert len(set(paths)) == len(paths)
    assert all(path.startswith("/r/") for path in paths)
    assert layout.done("abcd-1") == f"{layout.mailbox('abcd')}/abcd-1"
    assert layout.kept("abcd-1") == f"{layout.kept_mailbox('abcd')}/abcd-1"
