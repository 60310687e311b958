"""The calling side of a spool: publishes calls and waits for outcomes in a mailbox."""
