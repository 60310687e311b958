"""Every operation of the protocol, ended at every one of its filesystem calls.

The process dies before the call or after it; others recover as they would; then the spool is
walked.
"""

from __future__ import annotations

import pytest
from gone_caller_operations import GONE_CALLERS
from parked_operations import PARKED
from slim import in_slim_process
from sweep import LOCAL, NO_LINKS, REMOTE, in_child
from sweep_checks import check_at_once, check_in_the_end, differs, dying_stages, recover
from sweep_operations import OPERATIONS

from fsqueue.testing import CRASH_STATUS


@pytest.mark.parametrize("mount", [LOCAL, REMOTE, NO_LINKS], ids=str)
@pytest.mark.parametrize("operation", [*OPERATIONS, *PARKED, *GONE_CALLERS], ids=str)
@in_slim_process
def test_the_process_dies_at_every_call(folder, operation, mount):
    if mount != LOCAL and not differs(folder, operation, mount):
        return  # the same calls as on a local disk
    for death, stage in dying_stages(folder, operation, mount):
        assert in_child(lambda: operation.run(stage)) == CRASH_STATUS, death  # noqa: B023
        check_at_once(stage, operation, accepted=operation.accepted)
        recover(stage, dead=True)
        check_in_the_end(stage, operation, accepted=operation.accepted)
