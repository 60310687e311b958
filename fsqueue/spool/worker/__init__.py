"""The working side of a spool: registration, what to claim next, and upkeep."""
