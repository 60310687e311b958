"""Commands that change what happens to calls, queues and workers."""
