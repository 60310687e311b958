"""Rings of tokens, after an exception of a signal handler."""

from __future__ import annotations

from typing import ClassVar

import pytest
from support import wait_until

from fsqueue.spool.disk.filesystem import Filesystem
from fsqueue.spool.wakeups.rings import Ringer


class Interrupted(Ringer):
    """A signal handler raises just before the first thread starts."""

    interruptions: ClassVar = [KeyboardInterrupt()]

    def _start(self, function, *args):
        if self.interruptions:
            raise self.interruptions.pop()
        return super()._start(function, *args)


def test_an_interrupted_ring_does_not_silence_its_folder(tmp_path):
    token = tmp_path / "worker.1"
    token.touch()
    ringer = Interrupted(Filesystem(), lambda _: None, patience=0.01)
    with pytest.raises(KeyboardInterrupt):
        ringer.ring(str(tmp_path))
    ringer.ring(str(tmp_path))
    wait_until(lambda: not token.exists(), what="it is rung, and removed as nobody owns it")
    ringer.finish()
