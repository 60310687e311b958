"""How a process learns that something has changed: file events, bells, polls, ends of processes."""
