"""State of fleets in the spool: the batch jobs that run workers, visible to every host."""
