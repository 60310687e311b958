from __future__ import annotations

import ast
import errno
import os
import pathlib

import msgspec
import pytest
from spool_pair import QUEUE, opened_pair
from support import RECORDS, open_store

import fsqueue.spool
from fsqueue.errors import EnvelopeError, SpoolError, SpoolVersionError
from fsqueue.spool.format import envelope
from fsqueue.spool.format.names import AttemptName, Slot
from fsqueue.spool.format.states import State
from fsqueue.spool.worker.backlog.folder import FolderBacklog
from fsqueue.testing import NAME_VERBS, Fault, FaultyFilesystem


@pytest.fixture
def pair(spool):
    with opened_pair(spool) as pair:
        yield pair


# -- what the moves cost ----------------------------------------------------------------------


def test_costs_when_the_slot_and_the_mailbox_are_there(pair):
    fs = pair.fs
    pair.publish()
    fs.inject()
    receipt = pair.publish()
    if fs.count("mkdir"):  # a second has begun, and so a slot
        fs.inject()
        receipt = pair.publish()
    assert fs.count(*NAME_VERBS) <= 4
    assert fs.count("write", "symlink") == 1
    assert fs.count("listdir") == 0

    fs.inject()
    claim = pair.worker.claim(receipt.path)
    pair.store.calls.read_claimed(claim)
    steps = ["rename", "read"] if RECORDS == "files" else ["read", "rename"]
    assert [operation.verb for operation in fs.trace] == steps

    fs.inject()
    assert pair.complete(claim)
    assert fs.count(*NAME_VERBS) <= 4
    assert fs.count("write", "symlink") == 1

    fs.inject()
    assert pair.store.outcomes.collect(receipt.invocation_id, keep=False)
    assert [operation.verb for operation in fs.trace] == ["read", "unlink"]


def test_costs_of_reading_a_kept_outcome_once_more(pair):
    receipt = pair.publish(keep=True)
    assert pair.complete(pair.worker.claim(receipt.path))
    data = pair.store.outcomes.collect(receipt.invocation_id, keep=True)
    pair.fs.inject()
    assert pair.store.outcomes.peek(receipt.invocation_id, collected=True) == data
    assert [operation.verb for operation in pair.fs.trace] == ["read"]


def test_claiming_costs_the_same_with_any_backlog(pair):
    def cost() -> int:
        pair.fs.inject()
        origin = FolderBacklog(pair.store, QUEUE).next()
        claim = pair.worker.claim(origin)
        count = pair.fs.count()
        pair.complete(claim)
        return count

    slot = pair.store.layout.slot(QUEUE, str(Slot(5, 1.0)))
    pair.fs.make_folders(slot)
    costs = []
    for number in range(1, 700):
        pair.fs.create(f"{slot}/abcd-{number}.1", [])
        if number in {1, 650}:
            costs.append(cost())
    assert costs[0] == costs[1]
    assert len(pair.fs.names(slot, limit=500)) == 500
    for name in os.listdir(pair.store.layout.mailbox("abcd")):
        pair.store.outcomes.collect(name, keep=False)
    os.rmdir(pair.store.layout.mailbox("abcd"))


# -- moves ------------------------------------------------------------------------------------


def test_an_outcome_is_kept_for_others_on_request(pair):
    receipt = pair.publish(keep=True)
    pair.complete(pair.worker.claim(receipt.path))
    data = pair.store.outcomes.collect(receipt.invocation_id, keep=True)
    assert pair.store.outcomes.peek(receipt.invocation_id) == data
    assert pair.store.outcomes.collect(receipt.invocation_id, keep=True) == data
    outcome, payload = pair.store.outcomes.read(receipt.invocation_id, data)
    assert (outcome.state, payload.data) == (State.SUCCEEDED, b"value")
    os.unlink(pair.store.layout.kept(receipt.invocation_id))
    os.rmdir(pair.store.layout.kept_mailbox(pair.client.name))


class Interrupted(FaultyFilesystem):
    """Something happens right before one of its reads."""

    def __init__(self, before: int, happens) -> None:
        super().__init__()
        self._before, self._happens = before, happens

    def read(self, path: str, *args, **kwargs) -> bytes:
        self._before -= 1
        if self._before == 0:
            self._happens()
        return super().read(path, *args, **kwargs)


@pytest.mark.parametrize("before", [1, 2, 3, 4])
def test_no_reader_finds_what_a_late_worker_publishes_after_the_collection(pair, before):
    receipt = pair.publish(keep=True)
    claim = pair.worker.claim(receipt.path)
    pair.complete(claim)
    first = pair.store.outcomes.peek(receipt.invocation_id)

    def collect_and_complete_again() -> None:
        assert pair.store.outcomes.collect(receipt.invocation_id, keep=True) == first
        assert pair.store.endings.complete(claim, pair.outcome(claim), [b"too late"])

    # One read is that of the spool's own description.
    fs = Interrupted(before + 1, collect_and_complete_again)
    observer = open_store(pair.store.layout.root, fs)
    assert observer.outcomes.peek(receipt.invocation_id) == first
    assert observer.outcomes.peek(receipt.invocation_id) == first
    assert pair.store.outcomes.collect(receipt.invocation_id, keep=True) == first
    os.unlink(pair.store.layout.kept(receipt.invocation_id))
    os.rmdir(pair.store.layout.kept_mailbox(pair.client.name))


class Forgetful(FaultyFilesystem):
    """As a Linux NFS client: a rename into a folder that is gone makes it forget the source.

    It finds the source again when it lists its folder.
    """

    def __init__(self) -> None:
        super().__init__(remote=True)
        self.forgotten = ""

    def rename(self, source: str, target: str) -> None:
        if source == self.forgotten:
            raise FileNotFoundError(errno.ENOENT, "forgotten", source)
        try:
            super().rename(source, target)
        except FileNotFoundError:
            self.forgotten = source
            raise

    def exists(self, path: str, *, fresh: bool = False) -> bool:
        return path != self.forgotten and super().exists(path, fresh=fresh)

    def names(self, path: str, *, limit: int | None = None, fresh: bool = False) -> list[str]:
        if os.path.dirname(self.forgotten) == path:
            self.forgotten = ""
        return super().names(path, limit=limit, fresh=fresh)


@pytest.mark.leaves_strays
def test_a_call_is_not_lost_when_its_slot_is_removed_on_another_host(spool):
    store = open_store(spool, Forgetful())
    slot = store.layout.slot(QUEUE, str(Slot(5, 1.0)))
    temporary = store.layout.tmp("mine", 0)
    store.fs.create(temporary, [b"a call"])
    assert store.files.move(temporary, f"{slot}/abcd-1.1")
    assert os.listdir(slot) == ["abcd-1.1"]
    assert not store.files.move(temporary, f"{slot}/abcd-2.1")


def test_failed_calls_can_be_inspected(pair):
    receipt = pair.publish()
    claim = pair.worker.claim(receipt.path)
    pair.complete(claim, State.FAILED)
    assert os.listdir(pair.store.layout.failed_folder) == [str(claim.name)]


def test_a_call_that_is_given_back_is_the_same_attempt(pair):
    receipt = pair.publish()
    claim = pair.worker.claim(receipt.path)
    assert pair.worker.release(claim)
    assert not pair.worker.release(claim)
    assert pair.store.claims.give_back(claim)
    pair.worker.forget(claim)
    assert pair.worker.claim(receipt.path) == claim


def test_a_cancelled_call_of_another_version_is_ended_by_its_name(pair):
    """The process that cancelled it has died."""
    path = pair.publish().path
    os.unlink(path)
    with open(f"{path}x", "wb") as file:
        file.write(b"fsqueue 2 call\n")
    assert pair.worker.claim(f"{path}x") is None
    name = AttemptName.parse(os.path.basename(path))
    assert pair.store.outcomes.exists(name.invocation_id)
    assert os.listdir(pair.store.layout.running(pair.worker.name)) == []


def test_a_call_that_was_cancelled_while_it_ran_is_not_given_back(pair):
    receipt = pair.publish()
    claim = pair.worker.claim(receipt.path)
    assert pair.store.endings.cancel_running(receipt.invocation_id)
    assert pair.worker.release(claim)
    assert not pair.store.claims.give_back(claim)
    pair.worker.forget(claim)
    assert not os.path.lexists(claim.path)
    assert not os.path.lexists(receipt.path), "its body would run for nobody"
    os.unlink(pair.store.layout.cancelled(receipt.invocation_id))


def test_an_outcome_of_another_invocation_is_refused(pair):
    one, other = pair.publish(), pair.publish()
    pair.complete(pair.worker.claim(one.path))
    data = pair.store.outcomes.peek(one.invocation_id)
    with pytest.raises(EnvelopeError, match="another invocation"):
        pair.store.outcomes.read(other.invocation_id, data)


def test_a_call_under_another_name_is_refused(pair):
    receipt = pair.publish()
    path = f"{os.path.dirname(receipt.path)}/abcd-9.1"
    os.rename(receipt.path, path)
    claim = pair.worker.claim(path)
    with pytest.raises(EnvelopeError, match="another invocation"):
        pair.store.calls.read_claimed(claim)
    pair.worker.release(claim)
    os.unlink(claim.path)


def test_a_call_of_another_spool_is_refused(pair, spool):
    receipt = pair.publish()
    other = open_store(f"{spool}/other")
    claim = pair.worker.claim(receipt.path)
    with pytest.raises(EnvelopeError, match="another spool"):
        other.calls.read_claimed(claim)


@pytest.mark.parametrize(
    ("queue", "slot"),
    [
        ("../../outside", "4.0000000000001"),
        ("a/b", "4.0000000000001"),
        ("", "4.0000000000001"),
        ("..", "4.0000000000001"),
        (QUEUE, "../../outside"),
        (QUEUE, "soon"),
    ],
)
def test_a_call_that_names_no_folder_of_the_spool_is_refused(pair, queue, slot):
    """A requeue would follow the name, or put it where no worker finds it."""
    receipt = pair.publish()
    claim = pair.worker.claim(receipt.path)
    call, payload = pair.store.calls.read_claimed(claim)
    hostile = msgspec.structs.replace(call, queue=queue, slot=slot)
    os.unlink(claim.path)
    pair.fs.create(claim.path, envelope.encode(hostile, [payload.data]))
    with pytest.raises(EnvelopeError):
        pair.store.calls.read(claim.path, claim.name)


def test_a_foreign_name_goes_into_quarantine(pair):
    folder = pair.store.layout.slot(QUEUE, str(Slot(5, 1.0)))
    pair.fs.make_folders(folder)
    pair.fs.create(f"{folder}/notes.txt", [b"?"])
    assert pair.worker.claim(f"{folder}/notes.txt") is None
    assert sorted(os.listdir(pair.store.layout.quarantine_folder)) == [
        "notes.txt",
        "notes.txt.reason",
    ]


@pytest.mark.parametrize("code", [errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK])
def test_a_filesystem_without_links_gets_outcomes_by_rename(pair, code):
    receipt = pair.publish()
    claim = pair.worker.claim(receipt.path)
    pair.fs.inject(Fault.fail(code, at=None, verb="link"))
    assert pair.complete(claim)
    assert not pair.store.endings.complete(claim, pair.outcome(claim), [b"other"])
    data = pair.store.outcomes.peek(receipt.invocation_id)
    assert pair.store.outcomes.read(receipt.invocation_id, data)[1].data == b"value"


def test_a_worker_tries_one_name_once_at_a_time(pair):
    receipt = pair.publish()
    claim = pair.worker.claim(receipt.path)
    assert claim is not None
    assert pair.worker.claim(receipt.path) is None
    assert pair.worker.claims == [claim]


def test_a_worker_that_was_declared_dead_claims_nothing(pair):
    receipt = pair.publish()
    os.rmdir(pair.store.layout.running(pair.worker.name))
    assert not pair.worker.is_registered()
    with pytest.raises(OSError, match="declared dead"):  # and not as if another worker was faster
        pair.worker.claim(receipt.path)
    assert os.path.lexists(receipt.path)


# -- opening ----------------------------------------------------------------------------------


def test_all_openers_agree_on_the_spool(spool):
    assert open_store(spool).files.info == open_store(spool).files.info


@pytest.mark.parametrize("kind", [Fault.lost_reply, Fault.fail])
def test_the_creation_survives_a_lost_reply_and_missing_links(spool, kind):
    fs = FaultyFilesystem([kind(code=0 if kind == Fault.lost_reply else errno.EPERM, verb="link")])
    assert open_store(spool, fs).files.info == open_store(spool).files.info


def test_a_damaged_spool_is_a_clear_error(spool):
    open_store(spool)
    for content, error in ((b"{", SpoolError), (b'{"format":3,"id":"x"}', SpoolVersionError)):
        pathlib.Path(spool, "spool.json").write_bytes(content)
        with pytest.raises(error, match=r"spool\.json|format 3"):
            open_store(spool)


def test_a_root_that_cannot_be_created_is_a_clear_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SpoolError, match="FSQUEUE__ROOT"):
        open_store(tmp_path / "file" / "root")


# -- clocks -----------------------------------------------------------------------------------


def test_no_part_of_the_protocol_reads_the_clock_of_its_host():
    folder = pathlib.Path(fsqueue.spool.__file__).parent
    # At any depth; and some must be found, or a move of the files would end this test's watch.
    paths = list(folder.rglob("*.py"))
    assert len(paths) > 30
    found = []
    for path in paths:
        if path.name == "looking.py":
            continue  # it decides nothing: a look may write nothing, so it cannot ask the server
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and node.attr in {
                "time",
                "time_ns",
                "now",
                "utcnow",
            }:
                owner = ast.unparse(node.value)
                if owner in {"time", "datetime", "datetime.datetime"}:
                    found.append(f"{path.name}:{node.lineno}")
    assert found == []
