"""The working side of a spool: registration, the backlog, and upkeep."""
