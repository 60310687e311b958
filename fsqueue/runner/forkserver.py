"""Loaded by the fork server that makes the processes of slots, and by nothing else.

A signal to a whole group (a terminal, timeout(1), systemd, a batch system) reaches the server too.
Without the server nobody could tell whether a slot's process lives. It ends by itself with its
worker.
"""

from fsqueue.runner.signals import leave_to_the_worker

leave_to_the_worker()
