"""``python nfs_claims.py SHARED LOCAL``: claim all that is pending, as fast as a worker can.

It begins when a file ``go`` comes into the shared folder, together with those on other hosts,
notes its claims in the local one, and gives everything back when a file ``release`` comes.
"""

import sys

import nfs_tasks
from nfs_tasks import app, wait_for

from fsqueue.spool.worker.backlog.folder import FolderBacklog
from fsqueue.spool.worker.registration import Worker

shared, local = sys.argv[1:]
store = app.store
(queue,) = store.fs.names(store.layout.pending_folder, fresh=True)
worker = Worker(store, queues=(queue,), runner="thread", concurrency=1)
worker.register()
print("ready", flush=True)
wait_for(shared, "go")
backlog = FolderBacklog(store, queue)
lost = 0
while (origin := backlog.next()) is not None:
    claim = worker.claim(origin)
    if claim is None:
        lost += 1
    else:
        nfs_tasks.note(local, claim.name)
print(f"claimed {len(worker.claims)} and lost {lost}", flush=True)
wait_for(shared, "release")
for claim in worker.claims:
    if worker.release(claim):
        assert store.claims.give_back(claim)
worker.deregister()
