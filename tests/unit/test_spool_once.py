import errno
import itertools
import os

import msgspec
import pytest
from msgspec import structs
from support import open_store, upgrade

from fsqueue.errors import SpoolVersionError
from fsqueue.spool.features.deduplication import Entry, Key, _Newest
from fsqueue.spool.format import envelope
from fsqueue.spool.format.names import DEFAULT_PRIORITY, Slot
from fsqueue.spool.format.records import Call
from fsqueue.spool.worker.expiry import expire_by_kind
from fsqueue.testing import Fault, FaultyFilesystem

pytestmark = pytest.mark.leaves_strays  # what publishers leave that die
KEY = Key("0" * 32, "content")
numbers = itertools.count(1)


@pytest.fixture
def store(spool):
    store = open_store(spool, FaultyFilesystem())
    store.files.sync_clock()
    return store


def call_of(store, **fields):
    call = Call(
        id=f"client0001-{next(numbers)}",
        spool=store.files.info.id,
        task="tasks.f",
        queue="default",
        slot=str(Slot(DEFAULT_PRIORITY, store.clock.now())),
        created=0.0,
        python="3",
        codec="cloudpickle",
        max_attempts=3,
        keep=True,
        segments=(1,),
    )
    return structs.replace(call, **fields)


def publish(store, key=KEY, **fields):
    return store.deduplication.publish(key, call_of(store, **fields), [b"x"])


def pending(store):
    return [name for _, _, names in os.walk(store.layout.pending_folder) for name in names]


def entries(store, key=KEY):
    folder = store.layout.once(key.name)
    return sorted(os.listdir(folder)) if os.path.isdir(folder) else []


def enter(store, *, written=True, number=1, **fields):
    """Leave the files of a publisher that dies after the link of its entry."""
    call = call_of(store)
    temporary = store.layout.tmp("entering", number)
    store.files.temporary.create(temporary, envelope.encode(call, [b"x"], store.files.key))
    entry = Entry(KEY.name, call.id, os.path.basename(temporary), call.queue, call.slot, "")
    content = structs.asdict(structs.replace(entry, **fields))
    _, chunks = envelope.seal("once", [msgspec.json.encode(content)], store.files.key, ())
    assert store.files.add_file(store.layout.once_entry(KEY.name, number), chunks)
    if not written:
        os.unlink(temporary)
    return call


def test_the_second_call_under_a_key_is_the_first(store):
    first, second = publish(store), publish(store, queue="other")
    assert (first.mine, second.mine) == (True, False)
    assert second == first._replace(mine=False)
    assert pending(store) == [f"{first.invocation_id}.1"]
    assert os.listdir(store.layout.tmp_folder) == []


def test_other_keys_are_others(store):
    assert publish(store).mine
    assert publish(store, Key("1" * 32)).mine
    assert len(pending(store)) == 2


def test_a_claimed_withdrawn_or_cancelled_call_frees_its_key(store):
    for end in (
        lambda path: os.rename(path, f"{store.layout.running_folder}/x"),
        store.withdraw,
        store.endings.cancel_pending,
    ):
        published = publish(store)
        assert published.mine
        end(published.path)
        assert store.deduplication.pending(KEY) is None
    assert entries(store) == ["3"], "older entries are removed"


def test_a_call_that_is_pending_again_does_not_hold_its_key(store):
    first = publish(store)
    os.rename(first.path, first.path.removesuffix(".1") + ".2")
    assert publish(store).mine


def test_the_call_of_a_publisher_that_died_is_made_pending(store):
    call = enter(store)
    found = publish(store)
    assert (found.invocation_id, found.mine) == (call.id, False)
    assert pending(store) == [f"{call.id}.1"]


def test_an_entry_whose_call_expired_frees_its_key(store):
    enter(store, written=False)
    assert publish(store).mine
    assert entries(store) == ["2"]


def test_an_entry_with_an_outdated_number_is_invalid(store):
    """A publisher listed the entries long ago, when the newest one was 6."""
    for number in (8, 9):
        enter(store, number=number)
    call = call_of(store)
    chunks = envelope.encode(call, [b"x"], store.files.key)
    assert not store.deduplication._is_published(KEY, _Newest(None, 6), call, chunks)
    assert entries(store) == ["8", "9"]
    assert f"{call.id}.1" not in pending(store)


def test_a_late_cleanup_leaves_the_entry_on_which_the_next_one_counts(store):
    """Its call was claimed at once, and another publisher is between its entry and its call."""
    store.withdraw(publish(store).path)
    newest = store.deduplication._newest(KEY)
    store.withdraw(publish(store).path)
    call = enter(store, number=3)
    store.deduplication._remove_older(KEY, newest)
    assert publish(store).invocation_id == call.id


class Met(FaultyFilesystem):
    """Another process acts before the next listing of a key that has an entry."""

    act = None

    def _call(self, verb, function, /, *args, **kwargs):
        if self.act and verb == "listdir" and "/once/" in args[0] and os.listdir(args[0]):
            act, self.act = self.act, None
            act()
        return super()._call(verb, function, *args, **kwargs)


def test_an_entry_stays_valid_if_another_publisher_made_its_call_pending(spool):
    """It was claimed, and another publisher added the next entry, before its own one checked."""
    store, other = open_store(spool, Met()), open_store(spool, FaultyFilesystem())
    for each in (store, other):
        each.files.sync_clock()
    others = []

    def publish_and_claim():
        helped = publish(other)
        assert not helped.mine
        other.withdraw(helped.path)
        others.append(enter(other, number=2))

    os.makedirs(store.layout.once(KEY.name))
    store.fs.act = publish_and_claim
    assert publish(store).mine
    assert publish(other).invocation_id == others[0].id
    assert pending(store) == [f"{others[0].id}.1"]


def test_an_entry_without_its_predecessor_is_invalid(store):
    """It expired while another publisher took over from it."""
    call = enter(store, number=8)
    assert publish(store).mine
    assert f"{call.id}.1" not in pending(store)


@pytest.mark.parametrize(
    "content",
    [b"", b"fsqueue 1 once", b"\0" * 1000],
    ids=["empty", "truncated", "foreign"],
)
def test_a_damaged_entry_is_set_aside_once_the_next_one_is_there(store, content):
    publish(store)
    path = store.layout.once_entry(KEY.name, 1)
    os.unlink(path)
    with open(path, "wb") as file:
        file.write(content)
    assert publish(store).mine
    assert entries(store) == ["2"]
    assert sorted(os.listdir(store.layout.quarantine_folder)) == [
        f"{KEY.name}.1",
        f"{KEY.name}.1.reason",
    ]


@pytest.mark.parametrize(
    "fields",
    [
        {"key": "1" * 32},
        {"id": "../../x-1"},
        {"temporary": "../spool.json"},
        {"queue": "../x"},
        {"slot": "../../../x"},
    ],
    ids=str,
)
def test_an_entry_that_leads_elsewhere_moves_nothing(store, fields):
    enter(store, **fields)
    assert publish(store).mine
    assert os.path.lexists(store.layout.info)
    assert len(pending(store)) == 1


def test_a_newer_entry_is_left_alone(store):
    publish(store)
    path = store.layout.once_entry(KEY.name, 1)
    with open(path, "wb") as file:
        file.write(b"fsqueue 2 once\n")
    upgrade(store.layout.root)
    with pytest.raises(SpoolVersionError):
        publish(store)
    expire_by_kind(store, result_ttl=-1.0)
    assert entries(store) == ["1"]


def test_names_that_are_not_numbers_are_ignored(store):
    folder = store.layout.once(KEY.name)
    os.makedirs(f"{folder}/lost+found")
    for name in ("0", "01", "x", "9" * 16, "1.reason"):
        with open(f"{folder}/{name}", "wb"):
            pass
    assert publish(store).mine
    assert "1" in entries(store)


def test_entries_expire_with_their_calls(store):
    first = publish(store)
    assert expire_by_kind(store, result_ttl=-1.0).registrations == 0, "it is pending"
    store.withdraw(first.path)
    assert expire_by_kind(store, result_ttl=60.0).registrations == 0, "it is young"
    assert expire_by_kind(store, result_ttl=-1.0).registrations == 1
    assert os.listdir(store.layout.once_folder) == []
    enter(store)
    assert expire_by_kind(store, result_ttl=-1.0).registrations == 0, "somebody may help"


def test_an_entry_that_may_not_be_read_just_now_is_not_passed_over(store):
    """Its call may be pending."""
    publish(store)
    store.fs.inject(Fault.fail(errno.EACCES, at=2))
    with pytest.raises(PermissionError):
        publish(store)
    assert len(pending(store)) == 1
