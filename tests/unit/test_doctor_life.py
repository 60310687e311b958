"""What tells one of two examiners that the other one is there."""

import errno
import threading

import pytest
from support import wait_until

from fsqueue.doctor.life import QUIET, PartnerLostError, SignsOfLife
from fsqueue.doctor.workplace import Workplace, workplace
from fsqueue.testing import Fault, FaultyFilesystem


@pytest.fixture
def fs():
    return FaultyFilesystem(remote=True)


@pytest.fixture
def pair(tmp_path, fs):
    """The signs of two hosts, each with a workplace of its own."""
    other_fs = FaultyFilesystem(remote=True)
    with workplace(str(tmp_path), fs) as mine, workplace(str(tmp_path), other_fs) as theirs:
        yield (
            SignsOfLife(mine, Workplace(fs, mine.root, theirs.token), mine.token, theirs.token),
            SignsOfLife(
                theirs, Workplace(other_fs, mine.root, mine.token), theirs.token, mine.token
            ),
        )


def look_for(signs, fs, seconds):
    """Look once in each of so many seconds."""
    for _ in range(seconds):
        fs.clock_offset += 1
        signs.look()


def test_who_beats_is_there_and_who_stops_is_lost(pair, fs):
    signs, other = pair
    ended = threading.Event()
    beating = threading.Thread(target=other.beat, args=(ended,))
    beating.start()
    try:
        for _ in range(2):
            seen = wait_until(lambda: beats_in(signs))
            look_for(signs, fs, int(QUIET))
            wait_until(lambda seen=seen: beats_in(signs) - seen)
    finally:
        ended.set()
        beating.join()
    look_for(signs, fs, int(QUIET))
    with pytest.raises(PartnerLostError, match="was silent for 15 s"):
        look_for(signs, fs, 2)


def beats_in(signs):
    return {name for name in signs.mine.fs.names(signs.mine.folder) if ".beat." in name}


def test_who_never_shows_himself_is_lost(pair, fs):
    signs, _ = pair
    with pytest.raises(PartnerLostError, match="was silent for 15 s"):
        look_for(signs, fs, int(QUIET) + 2)


def test_a_directory_that_hangs_is_no_silence(pair, fs):
    signs, _ = pair
    for _ in range(3):
        fs.clock_offset += 100
        signs.look()


@pytest.mark.parametrize(
    ("words", "seen"),
    [
        (["it failed", "it was killed"], "the other examiner has left: it failed; start"),
        (["", "it was killed"], "the other examiner has left; start"),
        (["it was killed"], "the other examiner has left: it was killed; start"),
    ],
)
def test_the_first_word_counts(pair, words, seen):
    signs, other = pair
    signs.look()
    for word in words:
        other.leave(word)
    with pytest.raises(PartnerLostError, match=seen):
        signs.look(at_once=True)


def test_errors_of_signs_harm_nobody(pair):
    signs, other = pair
    other.theirs.fs.inject(Fault.fail(errno.EIO, at=None, path="beat"))
    one = threading.Thread(target=other.beat, args=(ended := threading.Event(),))
    one.start()
    ended.set()
    one.join()
    other.theirs.fs.inject(Fault.fail(errno.EIO, at=None, path="left"))
    other.leave("it failed")
    signs.look(at_once=True)


def test_a_process_that_is_gone_is_seen_at_once(pair):
    signs, _ = pair
    signs.alive = lambda: False
    with pytest.raises(PartnerLostError, match="has left"):
        signs.look()
