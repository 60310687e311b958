"""A lab of one NFS server and two clients, each with a kernel of its own, per version of NFS.

The lab is found by the environment variable FSQUEUE_NFS_LAB, the folder that holds nfslab.py.
Both versions side by side: ``pytest tests/nfs -n 2 --dist loadgroup``.
"""

import compileall
import contextlib
import importlib.util
import os
import re
import sys
import tempfile
from pathlib import Path

import pytest
from nfs_harness import Site

HERE = Path(__file__).parent
FOLDER = "FSQUEUE_NFS_LAB"
VERSIONS = ("3", "4.2")


def pytest_configure(config):
    config.addinivalue_line("markers", f"nfs: needs the lab that {FOLDER} names")


def pytest_generate_tests(metafunc):
    if "lab" in metafunc.fixturenames:
        # A lab belongs to one process.
        versions = [
            pytest.param(version, marks=pytest.mark.xdist_group(f"nfs-{version}"))
            for version in VERSIONS
        ]
        metafunc.parametrize(
            "lab", versions, ids=lambda version: f"v{version}", indirect=True, scope="session"
        )


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    """Skip without a lab; in the order of the files, so that killing guests comes last."""
    mine = [item for item in items if HERE in item.path.parents]
    for item in mine:
        item.add_marker(pytest.mark.nfs)
        item.add_marker(pytest.mark.timeout(150))
        if not os.environ.get(FOLDER):
            reason = f"set {FOLDER} to the folder that holds nfslab.py"
            item.add_marker(pytest.mark.skip(reason=reason))
    places = [index for index, item in enumerate(items) if HERE in item.path.parents]
    mine.sort(key=lambda item: (item.callspec.params["lab"], item.path.name, item.location[1]))
    for place, item in zip(places, mine, strict=True):
        items[place] = item


def pytest_terminal_summary(terminalreporter):
    """The figures that tests have recorded."""
    lines = [
        f"{report.nodeid.rpartition('::')[2]}: {name} {value}"
        for report in terminalreporter.getreports("passed")
        for name, value in report.user_properties
        if "tests/nfs/" in report.nodeid
    ]
    if lines:
        terminalreporter.section("NFS figures")
        terminalreporter.write_line("\n".join(sorted(lines)))


@pytest.fixture(scope="session")
def lab(request):
    """Default mount options. The server gives up a client that is silent for 10 s, not 90 s."""
    path = Path(os.environ[FOLDER], "nfslab.py")
    spec = importlib.util.spec_from_file_location("nfslab", path)
    nfslab = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(nfslab)
    # The guests see the code under test as it is, by its path on this machine.
    seen = [HERE / "project", HERE.parent.parent / "fsqueue"]
    compile_ahead()
    with disk_in_memory() as folder:
        options = {"opts": f"vers={request.param}", "lease": 10, "grace": 10, "dir": folder}
        options["mem"] = "512M"  # scikit-learn takes some
        with nfslab.Lab(ro=map(str, seen), **options) as lab:
            yield lab


def compile_ahead():
    """The guests store no bytecode, so each of their processes would compile what is not compiled.

    On a busy machine that took a minute.
    """
    compileall.compile_dir(HERE.parent.parent / "fsqueue", quiet=2)


@contextlib.contextmanager
def disk_in_memory():
    """A folder for a lab, whose server has its disk elsewhere: in memory.

    A server writes each change through. On the disk of a machine with other work that took up to
    22 s, in which no client had an answer.
    """
    folder = tempfile.mkdtemp(prefix="nfslab-")
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.NamedTemporaryFile(prefix="nfslab-", dir=memory) as disk:
        os.symlink(disk.name, f"{folder}/export.img")
        yield folder


@pytest.fixture
def site(request, lab):
    """A spool of the test's own in the lab, whose guests all run."""
    for name, guest in list(lab.guests.items()):
        if guest.gone or guest.proc.poll() is not None:
            lab.kill(name)
            lab.boot(name)
    site = Site(lab, re.sub(r"\W+", "-", request.node.name).strip("-"), sys.executable)
    try:
        yield site
    finally:
        site.close()


@pytest.fixture
def version(request):
    return request.node.callspec.params["lab"]
