"""When a caller without results looks whether any worker serves its calls."""

from __future__ import annotations

import pytest

from fsqueue.errors import SpoolReplacedError
from fsqueue.spool.caller.silence import Silence


def looks(remote, *, until, ends_it=()):
    """The times of all looks, in whole seconds."""
    found = []

    def look():
        found.append(now)
        return len(found) in ends_it

    silence = Silence(int, look, remote=remote)
    silence.begin(0)
    for now in range(until):
        silence.look_if_due(now)
    return found


def test_on_a_local_disk_it_looks_at_growing_intervals_of_at_most_a_minute():
    assert looks(False, until=300) == [3, 9, 21, 45, 93, 153, 213, 273]


def test_on_a_file_server_it_looks_once_a_minute():
    assert looks(True, until=200) == [3, 63, 123, 183]


def test_after_a_warning_it_looks_no_more():
    assert looks(False, until=300, ends_it={2}) == [3, 9]


def test_whatever_comes_begins_a_new_silence():
    found = []
    silence = Silence(int, lambda: bool(found.append(None)), remote=True)
    silence.look_if_due(1000)
    assert not found, "nobody waits yet"
    silence.begin(1000)
    silence.look_if_due(1003)
    silence.begin(1004)
    silence.look_if_due(1006)
    assert len(found) == 1
    silence.look_if_due(1007)
    assert len(found) == 2


@pytest.mark.parametrize("remote", [False, True])
def test_a_look_that_fails_is_repeated_soon(caplog, remote):
    errors = [OSError("the server is down"), SpoolReplacedError("another spool")]

    def check():
        raise errors.pop(0)

    silence = Silence(check, lambda: True, remote=remote)
    silence.begin(0)
    silence.look_if_due(3)
    assert "the server is down" in caplog.text
    with pytest.raises(SpoolReplacedError):
        silence.look_if_due(9)
    assert silence.ends == 9 + 12
