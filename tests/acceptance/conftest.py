import signal

import pytest
from acceptance_harness import KINDS, Site


@pytest.fixture(autouse=True, scope="session")
def _hangup_signals():
    """Workers heed SIGHUP in the tests, even if these run under ``nohup``."""
    former = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, former)


@pytest.fixture
def site(tmp_path):
    """A spool and a project of the test's own; all processes of it end with the test."""
    site = Site(tmp_path)
    try:
        site.open()
        yield site
    finally:
        site.close()


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture(scope="module", params=KINDS)
def shared(request, tmp_path_factory):
    """A site with a worker that the tests of a module share: they leave it as it was."""
    site = Site(tmp_path_factory.mktemp("shared"))
    try:
        site.open()
        site.first = site.worker(request.param, 5).wait_for_start()
        yield site
    finally:
        site.close()


@pytest.fixture
def programs(site):
    """The tasks of `project/programs.py`, whose bodies start other processes."""
    module = site.load("programs")
    yield module
    module.app.close()


@pytest.fixture
def busy(site, kind):
    """A worker in the middle of a body, which takes its only slot."""
    site.marks_of_call = site.folder("marks")
    site.busy = site.worker(kind, 1).wait_for_start()
    site.held = site.call(site.tasks.hold, site.marks_of_call.folder)
    (site.body,) = site.marks_of_call.wait_for_starts(1)
    return site
