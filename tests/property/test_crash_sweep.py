"""Every operation of the protocol, ended at every one of its filesystem calls.

The process dies before the call or after it; others recover as they would; then the spool is
walked.
"""

from __future__ import annotations

import pytest
from sweep import LOCAL, NO_LINKS, REMOTE, in_child
from sweep_checks import check_at_once, check_in_the_end, differs, recover, stages
from sweep_operations import OPERATIONS

from fsqueue.testing import CRASH_STATUS, Fault


@pytest.mark.parametrize("mount", [LOCAL, REMOTE, NO_LINKS], ids=str)
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("operation", OPERATIONS, ids=str)
def test_the_process_dies_at_every_call(folder, operation, after, mount):
    if mount is not LOCAL and not differs(folder, operation, mount):
        return  # the same calls as on a local disk
    for number, _, stage in stages(folder, operation, mount):
        stage.inject(Fault.crash(after=after, at=number))
        assert in_child(lambda: operation.run(stage)) == CRASH_STATUS, number  # noqa: B023
        check_at_once(stage, operation, accepted=operation.accepted)
        recover(stage, dead=True)
        check_in_the_end(stage, operation, accepted=operation.accepted)
