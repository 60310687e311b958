"""Makes calls that are published without a task."""

from fsqueue.codec import PYTHON
from fsqueue.spool.caller.client import Draft
from fsqueue.spool.format.names import DEFAULT_PRIORITY
from fsqueue.spool.format.records import Call


def draft(client, task, queue, arguments):
    """A call with encoded arguments, whose result every process may read."""
    ticket = client.ticket(DEFAULT_PRIORITY)
    call = Call(
        id=ticket.id,
        spool=ticket.spool,
        task=task,
        queue=queue,
        slot=ticket.slot,
        created=round(ticket.now, 3),
        python=PYTHON,
        codec="cloudpickle",
        max_attempts=3,
        keep=True,
        segments=(len(arguments),),
    )
    return Draft(call, [arguments])
