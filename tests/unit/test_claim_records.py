"""Records of slot processes about the calls that they claim themselves, through a pipe."""

from fsqueue.runner.attempt.answers import Ending
from fsqueue.runner.slots.messages import Step, take_steps
from fsqueue.spool.history.entries import Entry

ENTRY = Entry(
    id="abcd-1",
    task="tasks.add",
    queue="app.default",
    attempt=1,
    state="succeeded",
    started=1.5,
    wait=0.25,
    run=0.5,
)
STEPS = [
    Step(Ending.FINISHED, [ENTRY, ENTRY], "/spool/pending/app.default/4.0000000000001/abcd-2.1"),
    Step(None, [], "/spool/pending/app.default/4.0000000000001/abcd-3.1"),
]


def test_steps_that_arrive_in_pieces():
    whole = b"".join(step.frame() for step in STEPS)
    for cut in range(len(whole) + 1):
        unread = bytearray(whole[:cut])
        first = take_steps(unread)
        unread += whole[cut:]
        assert first + take_steps(unread) == STEPS
        assert not unread
