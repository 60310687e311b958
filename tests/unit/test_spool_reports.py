"""Progress and output on disk: what is written, and what is read of any file found there."""

import os
import socket

import msgspec
import pytest
from spool_pair import opened_pair

from fsqueue.errors import EnvelopeError
from fsqueue.runner.output.reporting import Captured, Report, checked_progress
from fsqueue.spool.admin.worker_rows import list_workers
from fsqueue.spool.disk.filesystem import Filesystem
from fsqueue.spool.features.body_reports import (
    OUTPUT_LIMIT,
    Progress,
    latest_output,
    outputs_of,
    progress_of,
    read_output,
    read_progress,
    write_progress,
)
from fsqueue.spool.format.names import AttemptName
from fsqueue.spool.worker.expiry import expire_by_kind

NAME = AttemptName("abcd-1", 2)


@pytest.fixture
def pair(spool):
    with opened_pair(spool) as pair:
        yield pair


@pytest.fixture
def store(pair):
    return pair.store


def put(path, data):
    with open(path, "wb") as file:
        file.write(data)


# -- a file that grows ----------------------------------------------------------------------


def test_a_file_grows_and_a_repetition_changes_nothing(tmp_path):
    fs, path = Filesystem(), str(tmp_path / "file")
    for start, data in ((0, b"one "), (4, b"two "), (4, b"two "), (8, b"three")):
        fs.extend(path, start, data)
    assert fs.read(path) == b"one two three"
    assert os.stat(path).st_mode & 0o777 == 0o600
    fs.extend(path, 0, b"anew")
    assert fs.read(path) == b"anew"
    assert fs.read_part(path, 2, 1) == b"ne"


def test_a_file_of_a_group_has_its_mode(tmp_path):
    Filesystem(group=os.getgid()).extend(str(tmp_path / "file"), 0, b"text")
    assert os.stat(tmp_path / "file").st_mode & 0o777 == 0o660


def test_nothing_but_a_regular_file_grows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fs = Filesystem()
    put("secret", b"secret")
    os.symlink("secret", "link")
    os.link("secret", "other")
    os.mkfifo("pipe")
    os.mkdir("folder")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
    for name in ("link", "other", "pipe", "folder", "socket"):
        with pytest.raises(EnvelopeError):
            fs.extend(str(tmp_path / name), 3, b"text")
    reader = os.open("pipe", os.O_RDONLY | os.O_NONBLOCK)
    with pytest.raises(EnvelopeError):
        fs.extend(str(tmp_path / "pipe"), 3, b"text")
    os.close(reader)
    with pytest.raises(FileNotFoundError):
        fs.extend(str(tmp_path / "nothing"), 3, b"text")
    for name in ("link", "other", "pipe", "socket"):
        fs.extend(str(tmp_path / name), 0, b"text")  # put in its place, not into it
    assert fs.read("secret") == b"secret"


# -- limits -----------------------------------------------------------------------------------


@pytest.mark.parametrize("piece", [1000, 600_000, 5_000_000])
def test_of_much_output_the_beginning_and_the_end_are_kept(piece):
    captured = Captured()
    for number in range(5_000_000 // piece):
        captured.add(f"<{number}>".ljust(piece - 1, ".") + "\n")
    captured.add("the end")
    first = captured.take()
    data = first + captured.take(last=True)
    assert first.startswith(b"<0>")
    assert data.endswith(b"the end")
    assert OUTPUT_LIMIT - 2048 < len(data) <= OUTPUT_LIMIT
    assert data.count(b"bytes are cut out here") == 1
    assert captured.take(last=True) == b""


def test_little_output_is_whole_and_any_text_can_be_kept():
    captured = Captured()
    captured.add("ä\udcff")
    assert captured.take() == "ä\\udcff".encode()
    captured.add("x")
    assert captured.take(last=True) == b"x"


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("1", None, ""), TypeError),
        ((True, None, ""), TypeError),
        ((1, "2", ""), TypeError),
        ((1, 2, b"text"), TypeError),
        ((-1, None, ""), ValueError),
        ((float("nan"), None, ""), ValueError),
        ((1, float("inf"), ""), ValueError),
    ],
)
def test_a_bad_report_is_an_error_at_once(arguments, error):
    with pytest.raises(error, match="progress"):
        checked_progress(*arguments)


def test_progress_in_words():
    assert str(Progress(1, 4, "reading")) == "25% (1/4) reading"
    assert str(Progress(3)) == "(3)"
    assert Progress(5, 4).fraction == 1.0
    assert Progress(5, 0).fraction is None


# -- read as hostile input --------------------------------------------------------------------


def test_progress_comes_back(store):
    write_progress(store.files, NAME, Progress(1, 4, "x" * 200))
    assert read_progress(store.files, NAME) == Progress(1, 4, "x" * 200)
    assert progress_of(store.files, "abcd-1") == Progress(1, 4, "x" * 200)
    assert progress_of(store.files, "abcd-2") is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b'{"done":"1"}',
        b'{"done":null}',
        b"\xff\xfe",
        b"[" * 4000,
        b'{"done":1,"message":"' + b"x" * 10_000,
    ],
)
def test_an_invalid_report_is_none(store, data):
    put(store.layout.progress(NAME), data)
    assert read_progress(store.files, NAME) is None


def test_a_forged_report_is_shown_as_far_as_it_goes(store):
    put(
        store.layout.progress(NAME), b'{"done":1e999,"total":1e308,"message":"' + b"x" * 999 + b'"}'
    )
    found = read_progress(store.files, NAME)
    assert found is None or (found.fraction is None and len(str(found)) < 300)
    put(store.layout.progress(NAME), b'{"done":1e308,"total":1e-308}')
    assert read_progress(store.files, NAME).fraction is None


def test_anything_but_a_file_reads_as_no_output(store, tmp_path):
    put(tmp_path / "secret", b'{"done":1}')
    for make in (
        os.mkfifo,
        os.mkdir,
        lambda path: os.symlink(tmp_path / "secret", path),
        lambda path: os.symlink("/dev/zero", path),
    ):
        for path in (store.layout.progress(NAME), store.layout.output(NAME)):
            make(path)
        assert read_progress(store.files, NAME) is None
        assert read_output(store.files, NAME) == b""
        for path in (store.layout.progress(NAME), store.layout.output(NAME)):
            os.rmdir(path) if os.path.isdir(path) and not os.path.islink(path) else os.unlink(path)


def test_of_a_huge_file_no_more_than_the_limit_is_read(store):
    path = store.layout.output(NAME)
    put(path, b"text")
    os.truncate(path, 1 << 40)
    assert len(read_output(store.files, NAME)) == OUTPUT_LIMIT
    assert read_output(store.files, NAME, OUTPUT_LIMIT) == b""


# -- which attempt ------------------------------------------------------------------------------


def test_the_output_of_the_attempt_that_gave_the_outcome(pair):
    receipt = pair.publish()
    for attempt in (1, 2, 10):
        put(pair.store.layout.output(AttemptName(receipt.invocation_id, attempt)), b"x")
    assert latest_output(pair.store.files, receipt.invocation_id).attempt == 10
    assert [each.attempt for each in outputs_of(pair.store.files, receipt.invocation_id)] == [
        1,
        2,
        10,
    ]
    claim = pair.worker.claim(receipt.path)
    pair.store.endings.complete(claim, pair.outcome(claim))
    pair.worker.release(claim)
    pair.worker.forget(claim)
    assert latest_output(pair.store.files, receipt.invocation_id).attempt == 1


def test_a_report_lasts_as_long_as_its_claim(pair):
    store = pair.store
    receipt = pair.publish()
    claim = pair.worker.claim(receipt.path)
    write_progress(store.files, claim.name, Progress(1, 2))
    write_progress(store.files, NAME, Progress(1, 2))
    put(f"{store.layout.progress_folder}/no name of ours", b"")
    assert expire_by_kind(store, result_ttl=60.0).progress_reports == 1
    assert read_progress(store.files, NAME) is None
    (running,) = list_workers(store, heartbeat=2.0)[0].running
    assert running.progress == Progress(1, 2)
    assert msgspec.json.encode(running.progress) == b'{"done":1.0,"total":2.0}'
    pair.worker.release(claim)
    store.endings.complete(claim, pair.outcome(claim))
    pair.worker.forget(claim)
    assert expire_by_kind(store, result_ttl=60.0).progress_reports == 1


def test_output_expires_like_a_result(store):
    for number in (1, 2):
        put(store.layout.output(AttemptName(f"abcd-{number}", 1)), b"text")
    os.utime(store.layout.output(AttemptName("abcd-1", 1)), (1, 1))
    assert expire_by_kind(store, result_ttl=60.0).outputs == 1
    assert os.listdir(store.layout.output_folder) == ["abcd-2.1"]


# -- errors of the shared directory ---------------------------------------------------------------


def test_output_that_has_expired_meanwhile_starts_again(store):
    report = Report(store, NAME)
    report.add_output("one ")
    report.flush()
    os.unlink(store.layout.output(NAME))
    report.add_output("two")
    report.close()
    assert read_output(store.files, NAME) == b"two"


def test_an_error_is_logged_once_and_the_output_is_written_later(store, pair, caplog):
    from fsqueue.testing import Fault

    report = Report(store, NAME)
    pair.fs.inject(Fault.fail(28, verb="create", path=store.layout.output_folder, at=None))
    for _ in range(3):
        report.add_output("text ")
        report.flush()
    pair.fs.inject()
    report.close()
    assert read_output(store.files, NAME) == b"text text text "
    assert [r.getMessage().partition(": ")[0] for r in caplog.records] == [
        f"the output of {NAME} cannot be written"
    ]


def test_after_the_end_nothing_is_kept(store):
    report = Report(store, NAME)
    report.show(Progress(1))
    report.flush()
    assert os.listdir(store.layout.progress_folder) == [str(NAME)]
    report.close()
    report.add_output("late")
    report.show(Progress(2))
    report.flush()
    report.close()
    assert os.listdir(store.layout.progress_folder) == []
    assert os.listdir(store.layout.output_folder) == []
