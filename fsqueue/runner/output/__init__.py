"""Captures the output and progress of bodies and writes them to the spool."""
